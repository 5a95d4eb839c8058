#!/bin/sh
# Says that something was deployed, and shows p95 and mean of each host over the last day as a table.
set -eu
url=${LOADLENS_URL:-http://localhost:8888}
curl --silent --fail --header "Content-Type: application/json" --data '{"text": "deploy 1.4", "tags": ["deploy"]}' \
  "$url/api/v1/annotations"
echo
curl --silent --fail --compressed --header "Accept: text/csv" \
  "$url/api/v1/query?metric=cpuLoadAvg&stat=p95,mean&by=user&resample_rate=all"

#!/bin/bash
# Run by the image of InfluxDB 2 when it sets itself up: an account that reads the bucket and can do no more, for Grafana.
set -euo pipefail

influx v1 auth create \
    --org "$DOCKER_INFLUXDB_INIT_ORG" \
    --username grafana \
    --password "$(cat /run/secrets/influxdb_reader_password)" \
    --read-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID"

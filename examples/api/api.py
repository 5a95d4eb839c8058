"""Says that something was deployed, and shows p95 and mean of each host over the last day as a table."""

import os

import analytics

url = os.environ.get("LOADLENS_URL", "http://localhost:8888")
with analytics.connect(url, patience=analytics.Patience(30)) as service:
    print(service.annotate("deploy 1.4", tags=["deploy"]))
    print(service.query("cpuLoadAvg", stats=["p95", "mean"], by="user", rate="all"))

"""Unsupervised anomaly detection on a stream: a point's verdict uses only its past. `docs/anomalies.md` explains it."""

from analytics.anomalies.batch import anomalies
from analytics.anomalies.detector import Detector, Verdict
from analytics.anomalies.tuning import Tuning

__all__ = ["Detector", "Tuning", "Verdict", "anomalies"]

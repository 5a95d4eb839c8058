"""Unsupervised anomaly detection on a stream: a point's verdict uses only its past. `docs/anomalies.md` explains it."""

from analytics.methods.anomalies.batch import anomalies
from analytics.methods.anomalies.detector import Detector, Verdict
from analytics.methods.anomalies.tuning import Tuning

__all__ = ["Detector", "Tuning", "Verdict", "anomalies"]

"""Files of other tools: told apart, understood, and made windows of, each sample with its own time.

`reading.read` is the entry: it tells the form of each file, reads fields (`fields`), derives samples of our metrics
from them (`deriving`), and checks these (`samples`). `reports` makes reports of samples, `sending` brings them to a
service, `storing` into Parquet files.
"""

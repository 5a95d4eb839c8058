"""Beyond one host: the log of reports, the ledger of the writer and leases, kept by NATS JetStream."""

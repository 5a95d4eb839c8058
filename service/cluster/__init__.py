"""Beyond one machine: the log of reports, the ledger of the writer and leases, kept by NATS JetStream."""


class ClusterError(Exception):
    """NATS cannot be used, or is not set up as it has to be; the message says what to do.

    It stands here because nothing else of this room can be imported without NATS's client, which only processes of
    clusters need.
    """

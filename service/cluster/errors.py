"""What goes wrong with a cluster; without NATS's client, which only processes of clusters need."""


class ClusterError(Exception):
    """NATS cannot be used, or is not set up as it has to be; the message says what to do."""

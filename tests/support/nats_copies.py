"""Streams of NATS whose messages get other sequences, as another copy may have whose server stood still."""

import nats.js.errors

from service.cluster.connection import Cluster

__all__ = ["renumber"]


def renumber(cluster: Cluster, stream: str, first: int) -> None:
    """Have the same messages from sequence `first` on, none left out between them."""
    jetstream = cluster.jetstream

    async def anew() -> None:
        info = await jetstream.stream_info(stream)
        messages = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            try:
                messages.append(await jetstream.get_msg(stream, sequence))
            except nats.js.errors.NotFoundError:
                continue
        await jetstream.delete_stream(stream)
        await jetstream.add_stream(info.config)
        subject = messages[0].subject or ""
        for _ in range(first - 1):
            await jetstream.publish(subject, b"")
        if first > 1:
            await jetstream.purge_stream(stream, seq=first)
        for message in messages:
            name = (message.headers or {}).get("Nats-Msg-Id")
            named = None if name is None else {"Nats-Msg-Id": name}
            await jetstream.publish(message.subject or "", message.data or b"", headers=named)

    cluster.call(anew(), 30)

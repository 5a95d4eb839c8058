"""The messages of Prometheus' remote write, of both versions, and of remote read: series with labels and samples.

https://prometheus.io/docs/specs/prw/remote_write_spec/ has `prometheus.WriteRequest`, whose labels are texts, and
https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/ `io.prometheus.write.v2.Request`, whose labels are places in
a list of symbols. `prometheus.ReadResponse` is what remote read answers. Only what is read or written here is
described; protobuf passes over the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
READ = "prometheus.ReadResponse"

_Field = descriptor_pb2.FieldDescriptorProto
_KINDS: Final = {
    "string": _Field.TYPE_STRING,
    "double": _Field.TYPE_DOUBLE,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "sint32": _Field.TYPE_SINT32,
    "sint64": _Field.TYPE_SINT64,
}
_SAMPLE: Final = {"value": ("double", 1), "timestamp": ("int64", 2)}
_HISTOGRAM: Final = {
    "count_int": ("uint64", 1), "sum": ("double", 3), "schema": ("sint32", 4), "zero_threshold": ("double", 5),
    "zero_count_int": ("uint64", 6), "positive_spans": ("*BucketSpan", 11), "positive_deltas": ("*sint64", 12),
    "reset_hint": ("uint32", 14), "timestamp": ("int64", 15),
}  # fmt: skip
_SPAN: Final = {"offset": ("sint32", 1), "length": ("uint32", 2)}
_FILES: Final[Mapping[str, Mapping[str, Mapping[str, tuple[str, int]]]]] = {
    "prometheus": {
        "WriteRequest": {"timeseries": ("*TimeSeries", 1)},
        "ReadResponse": {"results": ("*QueryResult", 1)},
        "QueryResult": {"timeseries": ("*TimeSeries", 1)},
        "TimeSeries": {
            "labels": ("*Label", 1), "samples": ("*Sample", 2), "exemplars": ("*Opaque", 3),
            "histograms": ("*Histogram", 4),
        },
        "Histogram": _HISTOGRAM,
        "BucketSpan": _SPAN,
        "Label": {"name": ("string", 1), "value": ("string", 2)},
        "Sample": _SAMPLE,
        "Opaque": {},
    },
    "io.prometheus.write.v2": {
        "Request": {"symbols": ("*string", 4), "timeseries": ("*TimeSeries", 5)},
        "TimeSeries": {
            "labels_refs": ("*uint32", 1), "samples": ("*Sample", 2), "histograms": ("*Histogram", 3),
            "exemplars": ("*Opaque", 4), "metadata": ("Metadata", 5),
        },
        "Histogram": _HISTOGRAM,
        "BucketSpan": _SPAN,
        "Metadata": {"type": ("uint32", 1)},
        "Sample": _SAMPLE,
        "Opaque": {},
    },
}  # fmt: skip
"""By package and message the members: their type, `*` where they are many, and their number on the wire."""


class Malformed(ValueError):
    """A body that is no message of this kind; the message says what is wrong."""


class PrometheusSeries(NamedTuple):
    """A series of a request."""

    labels: Mapping[str, str]
    samples: Sequence[Any]
    """Each with a `value` and a `timestamp`, epoch milliseconds."""
    histograms: int
    exemplars: int


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for package, messages in _FILES.items():
        file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
        for name, members in messages.items():
            message = file.message_type.add(name=name)
            for member, (kind, number) in members.items():
                bare = kind.removeprefix("*")
                field = message.field.add(name=member, number=number, label=_Field.LABEL_OPTIONAL)
                if kind != bare:
                    field.label = _Field.LABEL_REPEATED
                field.type = _KINDS.get(bare, _Field.TYPE_MESSAGE)
                if bare not in _KINDS:
                    field.type_name = f".{package}.{bare}"
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL: Final = _pool()
_CLASSES: Final = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name)) for name in (V1, V2, READ)
}  # fmt: skip
_A_SAMPLE: Final = 10
"""So many labels or symbols, or what holds samples, take as long as a sample."""


def new(message: str) -> Any:
    """An empty message: `V1`, `V2` or `READ`."""
    return _CLASSES[message]()


def parse(body: bytes, message: str) -> Any:
    """The message of a body: `V1`, `V2` or `READ`. Raises Malformed."""
    request = new(message)
    try:
        request.ParseFromString(body)
    except (DecodeError, RecursionError) as error:
        raise Malformed(f"expected the message {message}: {str(error)[:200] or type(error).__name__}") from None
    return request


def is_larger(request: Any, most: int) -> bool:
    """Whether a request is more work than so many samples; what holds them, and their labels, are a share of one."""
    by_reference = request.DESCRIPTOR.full_name == V2
    work = (len(request.symbols) if by_reference else 0) / _A_SAMPLE
    for series in request.timeseries:
        labels = len(series.labels_refs) / 2 if by_reference else len(series.labels)
        work += len(series.samples) + len(series.histograms) + len(series.exemplars) + (1 + labels) / _A_SAMPLE
        if work > most:
            return True
    return work > most


def series_of(request: Any) -> Iterator[PrometheusSeries]:
    """The series of a message. Raises Malformed where labels refer to symbols that are not there."""
    if request.DESCRIPTOR.full_name != V2:
        for part in request.results if request.DESCRIPTOR.full_name == READ else (request,):
            for one in part.timeseries:
                labels = {label.name: label.value for label in one.labels}
                yield PrometheusSeries(labels, one.samples, len(one.histograms), len(one.exemplars))
        return
    symbols = list(request.symbols)
    if request.timeseries and symbols[:1] != [""]:
        raise Malformed("expected an empty text as the first of symbols")
    for one in request.timeseries:
        places = list(one.labels_refs)
        if len(places) % 2 or (places and max(places) >= len(symbols)):
            raise Malformed(f"expected pairs of places in {len(symbols)} symbols as labels_refs, got others")
        texts = [symbols[place] for place in places]
        labels = dict(zip(texts[::2], texts[1::2], strict=True))
        yield PrometheusSeries(labels, one.samples, len(one.histograms), len(one.exemplars))

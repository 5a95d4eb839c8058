"""The answer in pieces of time, each small enough that memory does not follow the size of the whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from analytics.windows import Windows, concatenate
from analytics.wire import schema_of, table_of
from service.stores.base import Answer, Question, Store
from service.windows.query import WindowsQuery

__all__ = ["Plan"]

_PIECE_WINDOWS = 1 << 17
"""Windows in a piece: some 10 MB, with histograms up to 50 MB while they are merged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a question is answered: ranges one after the other, each at once."""

    query: WindowsQuery
    user_id: str | None
    series: int
    """How many series are asked for."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answer; its metadata say the metric, its unit and how many pieces come."""
        query = self.query
        schema = schema_of(users=query.by_user, cores=query.core is not None, histograms=query.histograms)
        pieces = str(len(self.ranges()))
        metric = query.metric
        return schema.with_metadata({"metric": metric.name, "unit": metric.quantity.unit, "pieces": pieces})

    def ranges(self) -> Sequence[tuple[int, int]]:
        """The pieces of [start, end), cut at edges of buckets."""
        query = self.query
        width_ms = max(1, _PIECE_WINDOWS // self.series) * query.window_ms
        first_edge = query.start_ms // query.rate_ms * query.rate_ms + width_ms
        edges = [query.start_ms, *range(first_edge, query.end_ms, width_ms), query.end_ms]
        return [*pairwise(edges)]

    def answer(self, store: Store, start_ms: int, end_ms: int) -> pa.Table:
        """The windows of one piece, sorted by user, core (the whole machine first) and time."""
        answers = [store.answer(question) for question in self._questions(start_ms, end_ms)]
        query = self.query
        if query.by_user:
            [(windows, users)] = answers
            return table_of(windows, self.schema, users, [])
        if query.core is None or query.core != "each":
            [(windows, _)] = answers
            return table_of(windows, self.schema, [], [query.core])
        return table_of(_stacked(answers), self.schema, [], [None, *map(int, answers[1].groups)])

    def _questions(self, start_ms: int, end_ms: int) -> Iterator[Question]:
        query = self.query
        for cores in ("whole", "each") if query.core == "each" else ("whole" if query.core is None else query.core,):
            yield Question(
                quantity=query.metric.quantity,
                start_ms=start_ms,
                end_ms=end_ms,
                rate_ms=query.rate_ms,
                user_id=self.user_id,
                cores=cores,
                by="user" if query.by_user else None,
                histograms=query.histograms,
            )


def _stacked(answers: Sequence[Answer]) -> Windows:
    """The whole machine as series 0, its cores behind it."""
    whole, cores = (answer.windows for answer in answers)
    columns = {name: getattr(cores, name) for name in Windows.__dataclass_fields__}
    return concatenate([whole, Windows(**columns | {"series": cores.series + 1})])

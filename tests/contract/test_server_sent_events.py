"""Server-sent events: however bytes are cut and lines end, the same events; and never more memory than agreed."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.server_sent_events import EventStreamParser, EventTooLarge, ServerSentEvent

MAX_BYTES = 64 * 1024
STREAM = (
    ": a comment\r\nretry: 2000\r\n\r\n"
    "event: instructions\nid: abc\ndata: {\"a\":\ndata:1}\n\n"
    "data\n\n"
    ":\n\n"
    "event: nothing\n\n"
    "id: x\0y\nunknown: 1\ndata: é ☃\r\r"
    "id\ndata: : colon\r\n\r\n"
    "data: unfinished"
).encode()  # fmt: skip
EVENTS = [
    ServerSentEvent("instructions", '{"a":\n1}', "abc"),
    ServerSentEvent("message", "", "abc"),
    ServerSentEvent("message", "é ☃", "abc"),
    ServerSentEvent("message", ": colon", ""),
]
LINE_ENDS = ["\n", "\r", "\r\n"]
TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8)


def parsed(*parts: bytes) -> list[ServerSentEvent]:
    parser = EventStreamParser(MAX_BYTES)
    return [event for part in parts for event in parser.feed(part)]


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    return [content[start:end] for start, end in itertools.pairwise(edges)]


def test_fields_lines_and_comments_are_read_as_the_standard_says() -> None:
    assert parsed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(places: list[int]) -> None:
    assert parsed(*cut(STREAM, places)) == EVENTS


def test_byte_by_byte_makes_no_difference() -> None:
    assert parsed(*(bytes([byte]) for byte in STREAM)) == EVENTS


@pytest.mark.parametrize("line_end", LINE_ENDS)
@given(
    st.lists(st.tuples(TEXTS, TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), max_size=5),
    st.lists(st.integers(0, 300), max_size=12),
    st.booleans(),
)
def test_events_are_read_back_with_each_line_end(
    line_end: str, written: list[tuple[str, str, list[str]]], places: list[int], has_mark: bool
) -> None:
    lines = [
        line
        for type_, id_, data in written
        for line in (": a comment", f"event: {type_}", f"id: {id_}", *(f"data: {text}" for text in data), "")
    ]
    content = ("\ufeff" * has_mark + "".join(line + line_end for line in lines)).encode()
    events = [ServerSentEvent(type_ or "message", "\n".join(data), id_) for type_, id_, data in written]
    assert parsed(*cut(content, places)) == events


@pytest.mark.parametrize("ending", [b"\r", b"\r\n", b"\n"])
def test_an_event_comes_with_the_first_byte_that_ends_it(ending: bytes) -> None:
    parser = EventStreamParser(MAX_BYTES)
    assert list(parser.feed(b"data: 1" + ending + ending[:1])) == [ServerSentEvent("message", "1", "")]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfdata: 1\n\n", b"data: 1\n\n"])
def test_a_byte_order_mark_is_passed_over_at_the_start_only(content: bytes) -> None:
    assert parsed(content) == [ServerSentEvent("message", "1", "")]
    assert parsed(b"\n", b"\xef\xbb\xbfdata: 1\n\n") == []


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n", b"data\n" * 200, b": " + b"x" * 1000])
def test_an_event_without_end_is_given_up_before_it_fills_the_memory(piece: bytes) -> None:
    parser = EventStreamParser(MAX_BYTES)

    def feed() -> None:
        for _ in range(2 * MAX_BYTES // 1000):
            list(parser.feed(piece))

    with pytest.raises(EventTooLarge):
        feed()


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 1000 + b"\n\n", b": " + b"x" * 1000 + b"\n"])
def test_many_small_events_and_comments_never_add_up(piece: bytes) -> None:
    parser = EventStreamParser(MAX_BYTES)
    for _ in range(2 * MAX_BYTES // 1000):
        assert len(list(parser.feed(piece))) == piece.startswith(b"data")


def test_it_is_known_whether_an_event_is_unfinished() -> None:
    parser = EventStreamParser(MAX_BYTES)
    for content, amid in ((b": comment\n\n", False), (b"da", True), (b"ta: 1\n", True), (b"\n", False)):
        list(parser.feed(content))
        assert parser.amid is amid


def test_an_id_without_data_says_where_to_go_on() -> None:
    parser = EventStreamParser(MAX_BYTES)
    assert list(parser.feed(b"id: 7\n\nid: 8\n")) == []
    assert parser.last_event_id == "7"


def test_the_servers_wait_is_read() -> None:
    parser = EventStreamParser(MAX_BYTES)
    assert parser.retry_ms is None
    for line, retry_ms in (
        (b"retry: 2000\n", 2000),
        (b"retry: soon\n", 2000),
        (b"retry: -1\n", 2000),
        (b"retry:0\n", 0),
    ):
        list(parser.feed(line))
        assert parser.retry_ms == retry_ms

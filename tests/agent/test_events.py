"""Server-sent events: however the bytes are cut, the same events; and never more memory than is right."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import MAX_EVENT, Event, EventParser, EventTooLarge

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
    Event("instructions", '{"a":\n1}', "abc"),
    Event("message", "", "abc"),
    Event("message", "é ☃", "abc"),
    Event("message", ": colon", ""),
]


def parsed(*parts: bytes) -> list[Event]:
    parser = EventParser()
    return [event for part in parts for event in parser.feed(part)]


def test_fields_lines_and_comments_are_read_as_the_standard_says() -> None:
    assert parsed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parsed(*(STREAM[start:end] for start, end in itertools.pairwise(edges))) == EVENTS


def test_byte_by_byte_makes_no_difference() -> None:
    assert parsed(*(bytes([byte]) for byte in STREAM)) == EVENTS


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n", b": " + b"x" * 1000 + b"\n"])
def test_an_event_without_end_is_given_up_before_it_fills_the_memory(piece: bytes) -> None:
    parser = EventParser()

    def feed() -> None:
        for _ in range(2 * MAX_EVENT // 1000):
            list(parser.feed(piece))

    with pytest.raises(EventTooLarge):
        feed()


def test_many_small_events_never_add_up() -> None:
    parser = EventParser()
    count = sum(len(list(parser.feed(b"data: " + b"x" * 1000 + b"\n\n"))) for _ in range(MAX_EVENT // 500))
    assert count == MAX_EVENT // 500


def test_it_is_known_whether_an_event_is_unfinished() -> None:
    parser = EventParser()
    for content, amid in ((b": comment\n\n", False), (b"da", True), (b"ta: 1\n", True), (b"\n", False)):
        list(parser.feed(content))
        assert parser.amid is amid

"""Whatever a body is, decoding it says a document or raises one kind of error."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from contract.problems import Problem, decode_json, problem_of, refuse_repeated_names
from contract.report import decode_report
from contract.validation import MalformedReport, parse
from tests.support.documents import NOW_MS, ORIGINAL

DEEP = b"[" * 20_000 + b"]" * 20_000


def test_a_document_is_decoded_as_the_type_that_is_asked_for() -> None:
    assert decode_json(b'{"a":[1]}') == {"a": [1]}
    assert decode_json(b'{"a":1}', dict[str, int]) == {"a": 1}
    with pytest.raises(msgspec.ValidationError, match=r"\$\[\.\.\.\]"):
        decode_json(b'{"a":"b"}', dict[str, int])


@pytest.mark.parametrize(
    ("body", "words"), [(b'"a\xff"', "0xff"), (b'{"\xe9":1}', "0xe9"), (DEEP, "too deeply"), (b"{", "breaks off")]
)
@pytest.mark.parametrize("kind", [Any, dict[str, Any] | list[Any] | str])
def test_what_is_no_json_raises_one_kind_of_error(body: bytes, words: str, kind: Any) -> None:
    with pytest.raises(msgspec.DecodeError, match=words):
        decode_json(body, kind)


@pytest.mark.parametrize(
    "body",
    [ORIGINAL.replace(b'"Linux"', b'"Linux", "os_version": "\xff"'), ORIGINAL.rstrip()[:-1] + b',"x":' + DEEP + b"}"],
)
def test_a_report_that_cannot_be_decoded_is_malformed(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_report(body)
    with pytest.raises(MalformedReport):
        parse(body, NOW_MS)


def test_a_name_that_stands_twice_is_refused_wherever_it_stands() -> None:
    refuse_repeated_names(b'{"a": {"b": 1}, "c": [{"b": 1}, {"b": 2}], "n": ' + b"9" * 10_000 + b"}")
    for body in (b'{"a": 1, "a": 1}', b'[{"x": {"b": 1, "a": 2, "a": 3}}]', b'{"a": 1, "\\u0061": 2}'):
        with pytest.raises(msgspec.DecodeError, match="the member 'a' stands twice"):
            refuse_repeated_names(body)


class Choice(msgspec.Struct):
    level: Annotated[Literal["low", "high"], msgspec.Meta(description="x")] | None = None
    levels: list[Literal["low", "high"]] = []
    by_name: dict[str, Literal["low"]] = {}
    inner: "Choice | None" = None


@pytest.mark.parametrize(
    ("document", "pointer", "detail"),
    [
        ({"level": "hihg"}, "/level", "expected one of high, low, got 'hihg'"),
        ({"levels": ["low", "x"]}, "/levels/1", "expected one of high, low, got 'x'"),
        ({"inner": {"inner": {"level": ""}}}, "/inner/inner/level", "expected one of high, low, got ''"),
        ({"by_name": {"a": "high"}}, "/by_name", "Invalid enum value 'high'"),
        ({"level": 1}, "/level", "Expected str | null, got int"),
    ],
)
def test_where_only_some_values_are_right_they_are_said(document: object, pointer: str, detail: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(document, Choice)
    assert problem_of(raised.value, Choice) == Problem(pointer, detail)
    assert problem_of(raised.value).pointer == pointer


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "expected JSON, got nothing"), (b" \n", "expected JSON, got nothing"),
        (b'{"a":', "expected JSON to its end, got a part of it: it breaks off after 5 bytes"),
        (b"{", "it breaks off after 1 byte$"),
    ],
)  # fmt: skip
def test_json_that_is_not_whole_is_told_in_words_that_help(body: bytes, words: str) -> None:
    for decode in (decode_json, decode_report):
        with pytest.raises(msgspec.DecodeError, match=words):
            decode(body)

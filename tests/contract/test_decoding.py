"""Whatever a body is, decoding it says a document or raises one kind of error."""

from typing import Any

import msgspec
import pytest

from contract.problems import decode_json
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
    ("body", "words"), [(b'"a\xff"', "0xff"), (b'{"\xe9":1}', "0xe9"), (DEEP, "too deeply"), (b"{", "truncated")]
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

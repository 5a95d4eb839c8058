"""Two answers to the same request side by side, for whoever has to tell why they differ."""

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["shown_differences"]

JsonObject = dict[str, Any]
_SHOWN = 10
_LINES = 12
_WIDTH = 300
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def shown_differences(exchanges: Sequence[JsonObject], answers: Sequence[JsonObject]) -> str:
    """What differs from the recorded answers, the first of it in detail; empty where nothing does.

    Answers that differ in the values of numbers alone are counted, with the largest relative distance of two numbers,
    and come last: a sum in another order moves the last digits.
    """
    pairs = [
        (one["request"], _text(one["answer"]), _text(answer))
        for one, answer in zip(exchanges, answers, strict=True)
        if _text(one["answer"]) != _text(answer)
    ]
    if not pairs:
        return ""
    distances = [distance for _, before, after in pairs if (distance := _distance(before, after)) is not None]
    pairs.sort(key=lambda pair: _distance(*pair[1:]) is not None)
    lines = [f"{len(pairs)} of {len(exchanges)} answers differ from the recorded ones"]
    if distances:
        lines.append(f"{len(distances)} of them in numbers alone, by at most {max(distances):.3g} relatively")
    for request, before, after in pairs[:_SHOWN]:
        lines.append(f"\n{json.dumps(request, ensure_ascii=False)[:_WIDTH]}")
        lines += _difference(before, after)
    return "\n".join(lines)


def _text(answer: JsonObject) -> str:
    # As text, because NaN is not equal to itself.
    return json.dumps(answer, ensure_ascii=False, sort_keys=True)


def _difference(before: str, after: str) -> list[str]:
    old, new = (re.split(r"(?<=,) |(?<=,)(?=\\\")|\\n", text) for text in (before, after))
    found = list(difflib.unified_diff(old, new, "recorded", "now", n=1, lineterm=""))
    shown = [line[:_WIDTH] for line in found[2 : 2 + _LINES]]
    return [*shown, f"... {len(found) - 2 - _LINES} lines more"] if len(found) > 2 + _LINES else shown


def _distance(before: str, after: str) -> float | None:
    """The largest relative distance of numbers at the same place; None where other things differ too."""
    if _NUMBER.sub("#", before) != _NUMBER.sub("#", after):
        return None
    pairs = zip(map(float, _NUMBER.findall(before)), map(float, _NUMBER.findall(after)), strict=True)
    return max(abs(one - other) / max(abs(one), abs(other)) for one, other in pairs if one != other)

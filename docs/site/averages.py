"""The figures of docs/why-averages-of-averages-lie.md: `python -m docs.site.averages` writes them to docs/pictures.

A made-up host that is easy to check by hand: 10 % for 57 seconds of each minute, flat out for 3. It is sampled every
50 ms and reported every 5 s, as agents do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import analytics
from analytics.frames.statistics import values_of

PICTURES = Path(__file__).parents[1] / "pictures"
_SAMPLES_A_WINDOW, _SAMPLES_A_MINUTE = 100, 1200
_IDLE, _BURST, _BURST_SAMPLES = 0.1, 1.0, 60
_WIDTH, _BAR, _LABELS = 720, 34, 300


class Answers(NamedTuple):
    """What different ways of looking say of an hour of the host, shares."""

    mean: float
    highest_minute: float
    true_p99: float
    mean_of_p99s: float
    p99_of_means: float


def samples() -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """An hour of samples, 50 ms apart."""
    minute = np.full(_SAMPLES_A_MINUTE, _IDLE)
    minute[-_BURST_SAMPLES:] = _BURST
    return np.tile(minute, 60)


def answers() -> Answers:
    """The answers, by the functions of the library."""
    values = samples()
    start = pd.Timestamp("2026-01-01", tz="UTC")
    times = start + pd.to_timedelta(np.arange(len(values)) * 50, unit="ms")
    windows = analytics.resample(analytics.frame_of_values(pd.DataFrame({"value": values}, times)), "5s")
    hour, minutes = analytics.resample(windows, "1h"), analytics.resample(windows, "1m")
    by_window = values.reshape(-1, _SAMPLES_A_WINDOW)
    return Answers(
        mean=float(np.average(hour["mean"], weights=hour["count"])),
        highest_minute=float(minutes["mean"].max()),
        true_p99=float(values_of(hour, "p99")["value"].max()),
        mean_of_p99s=float(np.quantile(by_window, 0.99, axis=1, method="inverted_cdf").mean()),
        p99_of_means=float(np.quantile(by_window.mean(axis=1), 0.99, method="inverted_cdf")),
    )


def figures() -> Mapping[str, str]:
    """The figures as SVG, by their file's name."""
    found = answers()
    return {
        "averages-p99.svg": _bars(
            "One hour of 50 ms samples: how high is the 99th percentile?",
            [
                ("p99 of the samples", found.true_p99, True),
                ("mean of the windows' p99", found.mean_of_p99s, False),
                ("p99 of the windows' means", found.p99_of_means, False),
                ("highest mean of a minute", found.highest_minute, False),
            ],
        ),
        "averages-fleet.svg": _bars(
            "64 cores at 10 %, 2 cores at 90 %: how busy is the fleet?",
            [
                ("share of all CPU time", (64 * 0.1 + 2 * 0.9) / 66, True),
                ("mean of the hosts' means", (0.1 + 0.9) / 2, False),
            ],
        ),
    }


def _bars(title: str, bars: Sequence[tuple[str, float, bool]]) -> str:
    """Bars from 0 to 100 %, each with its label and its number; what is true is drawn in another colour."""
    height = 48 + _BAR * len(bars) + 8
    full = _WIDTH - _LABELS - 90
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="15">',
        f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        f'<text x="16" y="30" font-size="17" font-weight="bold" fill="#1f2933">{title}</text>',
    ]
    for number, (label, value, is_true) in enumerate(bars):
        y = 48 + _BAR * number
        colour = "#1261a0" if is_true else "#b8c4ce"
        width, high = f"{max(2.0, value * full):.1f}", _BAR - 10
        lines += [
            f'<text x="{_LABELS - 12}" y="{y + 20}" text-anchor="end" fill="#1f2933">{label}</text>',
            f'<rect x="{_LABELS}" y="{y + 4}" width="{width}" height="{high}" fill="{colour}"/>',
            f'<text x="{_LABELS + value * full + 10:.1f}" y="{y + 20}" fill="#1f2933">{percent(value)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def percent(share: float) -> str:
    """The share as the page and the figures write it."""
    return f"{100 * share:.1f} %"


def main() -> None:
    """Write the figures."""
    for name, content in figures().items():
        (PICTURES / name).write_text(content)


if __name__ == "__main__":
    main()

"""What is to come."""

import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import BLUE, ORANGE, RED, blank
from analytics.figures.trends import TIME, UTILIZATION, add_band, add_line, as_shares

__all__ = ["forecast"]


def forecast(history: pd.DataFrame, coming: pd.DataFrame, title: str, *, threshold: float | None = None) -> go.Figure:
    """The past, and the forecast with its intervals.

    `history`: index time (UTC), sorted, column `mean`. `coming`: index or column `time`, columns `mean` and pairs
    `lower_80`, `upper_80` and the like for any levels (percent). All shares; `threshold` is drawn as a line.
    """
    coming = (coming.set_index("time") if "time" in coming else coming).copy()
    pairs = sorted(
        (int(name.removeprefix("lower_")) for name in map(str, coming) if name.startswith("lower_")), reverse=True
    )
    bounds = [f"{side}_{level}" for level in pairs for side in ("lower", "upper")]
    coming[bounds] = coming[bounds].clip(0, 1)
    figure = blank(title, x=TIME, y=UTILIZATION)
    for place, level in enumerate(pairs):
        add_band(
            figure, coming, f"lower_{level}", f"upper_{level}", name=f"{level} of 100 times within", colour=ORANGE,
            opacity=0.16 + 0.2 * place,
        )  # fmt: skip
    add_line(figure, history["mean"], name="measured", colour=BLUE)
    add_line(figure, coming["mean"], name="forecast", colour=ORANGE, dash="dash")
    if threshold is not None:
        figure.add_hline(y=threshold, line={"color": RED, "width": 1.5, "dash": "dot"},
                         annotation={"text": f"{threshold:.0%}", "font": {"color": RED}})  # fmt: skip
    shown = pd.concat([history[["mean"]], coming[["mean", *bounds]]])
    return as_shares(figure, shown, ["mean", *bounds])

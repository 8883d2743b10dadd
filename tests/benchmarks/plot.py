"""The picture: processor time per delivery, broker beside broker."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from .results import Results

_WORKS = ("1-1", "1-10", "1-100", "1-1000", "20-100")
_COLOURS = {
    "tercet": "#0b6e4f",
    "before": "#7fc8a9",
    "nats": "#3178c6",
    "mosquitto": "#b5651d",
    "naive": "#9a9a9a",
    "floor": "#d9d9d9",
}
_WIDTH = 0.8  # of the room for one work


class PlotError(Exception):
    """It cannot be drawn; the text says why."""


def plot(results: Results, path: Path) -> None:
    """Draw the fan-outs into a file, whose suffix says of which kind.

    Raises:
        PlotError: matplotlib is not installed, or the results hold no fan-out.
    """
    works = [work for work in _WORKS if work in results.works()]
    peers = [peer for peer in _COLOURS if any(results.spread(work, peer, "us") for work in works)]
    if not peers:
        raise PlotError("there is no fan-out in these results")
    try:
        # Not installed where types are checked; and slow to import.
        matplotlib: Any = importlib.import_module("matplotlib")
        figure_module: Any = importlib.import_module("matplotlib.figure")
    except ImportError as missing:
        raise PlotError("matplotlib is not installed: pip install '.[bench]'") from missing
    # Text stays text, and nothing random or dated gets in: the same results make the same file.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "tercet"}
    figure = figure_module.Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    width = _WIDTH / len(peers)
    for index, peer in enumerate(peers):
        for position, work in enumerate(works):
            spread = results.spread(work, peer, "us")
            if spread is None:
                continue
            x = position + (index - (len(peers) - 1) / 2) * width
            error = [[spread.median - spread.least], [spread.most - spread.median]]
            axes.bar(
                x,
                spread.median,
                width * 0.92,
                color=_COLOURS[peer],
                yerr=error,
                error_kw={"ecolor": "#444444", "elinewidth": 0.8},
                label=peer if position == 0 else None,
            )
            axes.annotate(
                f"{spread.median:.2g}",
                (x, spread.most),
                ha="center",
                va="bottom",
                fontsize=7,
                xytext=(0, 2),
                textcoords="offset points",
            )
    axes.set_yscale("log")
    axes.set_xticks(range(len(works)), [work.replace("-", " → ") for work in works])
    axes.set_xlabel("publishers → subscribers, 128 bytes, over WebSockets")
    axes.set_ylabel("processor µs per delivery (log)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(peers), loc="upper center", bbox_to_anchor=(0.5, 1.12))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)

"""The tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from .bars import BARS
from .figures import FIGURES, load_was_the_limit
from .results import Results, Spread
from .works import WORKS

_GROUPS = {work.name: work.group for work in WORKS}
# The rest is in the file, and in the remarks where it matters.
_SHOWN = ("us", "rate", "busy", "load", "p50", "p99", "max", "kib")
_COMPARED = {"us", "p50", "p99", "max", "kib"}
_NOISE = 10.0  # percent of the broker's core that others may use


def result_tables(results: Results) -> Iterator[Table]:
    """Yield a table for each group of works: medians, their spread, and Tercet's ratio to each peer."""
    groups = dict.fromkeys(_GROUPS.get(work, "others") for work in results.works())
    for group in groups:
        works = [work for work in results.works() if _GROUPS.get(work, "others") == group]
        peers = [peer for peer in results.versions if any(s.peer == peer and s.work in works for s in results.samples)]
        table = Table(title=group, title_justify="left", caption_justify="left")
        table.caption = "median (least…most)" + ("; in brackets Tercet divided by this one" if len(peers) > 1 else "")
        table.add_column("work")
        table.add_column("figure")
        for peer in peers:
            table.add_column(peer, justify="right")
        for work in works:
            for figure in _SHOWN:
                cells = [_cell(results, work, peer, figure) for peer in peers]
                if any(cells):
                    table.add_row(work, f"{figure} {FIGURES[figure].unit}", *cells)
            table.add_section()
        yield table


def _cell(results: Results, work: str, peer: str, figure: str) -> str:
    spread = results.spread(work, peer, figure)
    if spread is None:
        return ""
    text = _spread(spread, FIGURES[figure].digits)
    ratio = results.ratio(figure, (work, "tercet"), (work, peer))
    if peer == "tercet" or ratio is None or figure not in _COMPARED:
        return text
    return rf"{text} \[{ratio.median:.2f}]"


def _spread(spread: Spread, digits: int) -> str:
    text = f"{spread.median:,.{digits}f}"
    if spread.least != spread.most:
        text += f" ({spread.least:,.{digits}f}…{spread.most:,.{digits}f})"
    return text


def bar_table(results: Results) -> Table:
    """Return each bar, what was measured, and whether it was passed."""
    table = Table(title="bars", title_justify="left")
    table.add_column("bar")
    for name in ("at most", "median", "least…most", "the floor's"):
        table.add_column(name, justify="right")
    table.add_column("")
    for bar in BARS:
        spread = bar.spread(results)
        if spread is None:
            table.add_row(str(bar), f"{bar.limit:g}", "", "", "", "not measured", style="dim")
            continue
        passed = spread.median <= bar.limit
        verdict = "[green]pass[/]" if passed else "[red]FAIL[/]"
        between = f"{spread.least:,.2f}…{spread.most:,.2f}"
        floor = bar.floor(results)
        own = "" if floor is None else f"{floor.median:,.2f}"
        table.add_row(str(bar), f"{bar.limit:g}", f"{spread.median:,.2f}", between, own, verdict)
    return table


def remarks(results: Results) -> Iterator[str]:
    """Yield what a reader of the tables has to know."""
    for peer, why in results.missing.items():
        yield f"left out: {peer}: {why}"
    limited = {(sample.work, sample.peer): None for sample in results.samples if load_was_the_limit(sample.figures)}
    for work, peer in limited:
        yield f"{work}: the load, not {peer}, was the limit at least once: its rate may be higher"
    others = [sample.figures["others"] for sample in results.samples if "others" in sample.figures]
    if others and max(others) > _NOISE:
        yield (
            f"others used up to {max(others):.0f} % of the broker's core: "
            "compare processor time, and take rates and latencies for nothing"
        )
    for sample in results.errors():
        yield f"FAILED: {sample.work}, {sample.peer}, round {sample.round}: {sample.error}"

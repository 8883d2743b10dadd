"""The tables in the documentation: what stands between two comments is written from a file of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .bars import BARS
from .figures import FIGURES
from .results import Results, Spread
from .works import WORKS, Work

_BEGIN = "<!-- figures: begin -->"
_END = "<!-- figures: end -->"
_MANY_DIGITS, _FEW_DIGITS = 100, 10


class DocumentError(Exception):
    """The page cannot be written; the text says why."""


def document(runs: Sequence[Results], page: Path) -> None:
    """Put the results of one or several runs between the two comments of a Markdown page.

    Raises:
        DocumentError: the page has no such comments.
    """
    text = page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise DocumentError(f"{page} has no place for figures: {_BEGIN} and {_END}")
    page.write_text("\n".join([before + begin, "", *_lines(runs), "", end + after]))


def _lines(runs: Sequence[Results]) -> Iterator[str]:
    results = Results.joined(runs)
    yield f"Measured with {'; '.join(dict.fromkeys(results.versions.values()))}."
    for run in runs:
        known = run.circumstances
        yield (
            f"{known['rounds']} rounds of {known['seconds']} s, on {known['date']}, Python {known['python']}, "
            f"Linux {known['kernel']}, {known['cores']} cores of {known['processor']}, revision {known['revision']}"
            f"{'' if len(runs) == 1 else ': ' + ', '.join(run.works())}."
        )
    works = [work for work in WORKS if work.name in results.works()]
    for figure, title in (("us", "Processor time"), ("p99", "Latency"), ("kib", "Memory")):
        measured = [work for work in works if results.spread(work.name, "tercet", figure)]
        if measured:
            yield from ("", f"### {title}", "", *_table(results, measured, figure))
    yield from ("", "### The bars", "", *_bars(results))


def _table(results: Results, works: list[Work], figure: str) -> Iterator[str]:
    peers = [peer for peer in results.versions if any(results.spread(work.name, peer, figure) for work in works)]
    yield f"Median {FIGURES[figure].meaning}, in {FIGURES[figure].unit}; in brackets, Tercet's divided by this one's."
    yield ""
    yield f"| work | {' | '.join(peers)} |"
    yield "|---|" + "---:|" * len(peers)
    for work in works:
        yield f"| {work.name} | {' | '.join(_cell(results, work.name, peer, figure) for peer in peers)} |"


def _cell(results: Results, work: str, peer: str, figure: str) -> str:
    spread = results.spread(work, peer, figure)
    if spread is None:
        return ""
    ratio = results.ratio(figure, (work, "tercet"), (work, peer))
    text = _number(spread.median)
    return text if peer == "tercet" or ratio is None else f"{text} ({_number(ratio.median)})"


def _bars(results: Results) -> Iterator[str]:
    yield "| bar | at most | measured | from … to | the floor's |"
    yield "|---|---:|---:|---|---:|"
    for bar in BARS:
        spread: Spread | None = bar.spread(results)
        if spread is not None:
            measured, between = _number(spread.median), f"{_number(spread.least)} … {_number(spread.most)}"
            floor = bar.floor(results)
            own = "" if floor is None else _number(floor.median)
            yield f"| {bar} | {bar.limit:g} | {measured} | {between} | {own} |"


def _number(value: float) -> str:
    """Return three digits that matter."""
    if value >= _MANY_DIGITS:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= _FEW_DIGITS else f"{value:.2f}"

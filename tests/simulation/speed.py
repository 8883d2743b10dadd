"""How fast the simulation is: `python -m tests.simulation.speed` prints it, and writes it into the reference."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from tests.simulation import (
    test_chaos,
    test_fair_weather,
    test_operating,
    test_reconnecting,
    test_slow_subscribers,
    test_subscribing,
)

from tercet_testing import run_seed
from tercet_testing.suite import Totals

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "simulation.md"
_BEGIN, _END = "<!-- speed: begin -->", "<!-- speed: end -->"

# [(what it is, decorated test, how many seeds make up some seconds)]
SCENARIOS: Sequence[tuple[str, Any, int]] = (
    ("an hour with five clients, twenty partitions and two restarts", test_chaos.test_hour, 6),
    ("many deliveries on a fast network", test_fair_weather.test_everything_is_prompt, 30),
    ("subscribes that race with publishes", test_subscribing.test_subscribes_racing_with_publishes, 30),
    ("a storm of reconnects", test_reconnecting.test_reconnect_storm, 30),
    ("2,000 clients that come back after a restart", test_operating.test_reconnect_storm_after_a_restart, 2),
    ("a subscriber behind a slow line", test_slow_subscribers.test_slow_line, 30),
    ("faults of all kinds at all times", test_chaos.test_chaos, 12),
)


@frozen
class Speed:
    """What some runs of a scenario took.

    Attributes:
        seconds: real ones, of this process.
    """

    what: str
    totals: Totals
    seconds: float

    @property
    def row(self) -> str:
        """Return it as a line of the table: two figures of a run, three rates."""
        runs, rate = self.totals.runs, self.seconds
        cells = [
            f"{self.totals.seconds / runs:,.0f}",
            f"{rate / runs:.2f}",
            *(f"{figure / rate:,.0f}" for figure in (self.totals.seconds, self.totals.deliveries, self.totals.steps)),
        ]
        return f"| {self.what} | {' | '.join(cells)} |"


def measure(what: str, test: Any, seeds: int) -> Speed:
    """Run `seeds` seeds of a decorated test, policies in turn; raises what a failing one raises."""
    scenario, _, policies, _, limit = test.simulation
    totals = Totals()
    run_seed(scenario, 0, limit=limit)  # imports, caches
    began = time.process_time()
    for seed in range(seeds):
        outcome = run_seed(scenario, seed, policy=policies[seed % len(policies)], limit=limit)
        outcome.check()
        totals = totals.plus(outcome)
    return Speed(what, totals, time.process_time() - began)


def table(speeds: Sequence[Speed]) -> str:
    """Return the table in Markdown."""
    head = (
        "| scenario | virtual s a run | real s a run | virtual s / s | deliveries / s | steps / s |",
        "|---|--:|--:|--:|--:|--:|",
    )
    return "\n".join([*head, *(speed.row for speed in speeds)])


def write(page: Path, lines: str) -> None:
    """Put the table between the page's markers.

    Raises:
        ValueError: the page has none.
    """
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{page} has no {_BEGIN} and {_END}")
    page.write_text(f"{before}{begin}\n\n{lines}\n\n{end}{after}")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-print", action="store_true", help="leave the reference as it is")
    options = parser.parse_args()
    lines = table([measure(*scenario) for scenario in SCENARIOS])
    print(lines)  # noqa: T201 - a command
    if not options.only_print:
        write(PAGE, lines)


if __name__ == "__main__":
    main()

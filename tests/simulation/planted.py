"""After how many seeds each planted fault is found: `python -m tests.simulation.planted` writes the table."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from tests.simulation.faults import FAULTS, Fault

from tercet_testing import Outcome, run_seed
from tercet_testing.suite import DEFAULT_POLICIES

MOST = 500  # seeds
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "planted-faults.md"

_HEAD = f"""\
# Planted faults

Can the simulation find bugs? Each of these is a realistic mistake, planted into the broker or the client by a patch
(`tests/simulation/faults.py`). The numbers say after how many seeds its scenario fails: with the policies in turn, as
tests run them, and under each policy alone; a dash means: not within {MOST}. Without the fault, the scenario passes.

`python -m tests.simulation.planted` makes this page. A test repeats the first column with every change.

| fault | seeds | {" | ".join(DEFAULT_POLICIES)} |
|---|---|{"---|" * len(DEFAULT_POLICIES)}
"""


@frozen
class Found:
    """A fault was found.

    Attributes:
        seeds: how many it took, the one that failed included.
    """

    seeds: int
    outcome: Outcome


def hunt(fault: Fault, policies: tuple[str, ...] = DEFAULT_POLICIES, most: int = MOST) -> Found | None:
    """Plant a fault and run its scenario, the policies in turn, until it fails."""
    scenario = fault.scenario.simulation[0]
    with fault.planted():
        for seed in range(most):
            outcome = run_seed(scenario, seed, policy=policies[seed % len(policies)])
            if outcome.error is not None:
                return Found(seed + 1, outcome)
    return None


def _count(found: Found | None) -> str:
    return "-" if found is None else str(found.seeds)


def main() -> None:
    """Write the page, and show its lines as they come."""
    rows = []
    for fault in FAULTS:
        counts = [_count(hunt(fault))] + [_count(hunt(fault, (policy,))) for policy in DEFAULT_POLICIES]
        rows.append(f"| **{fault.name}**: {fault.what} | {' | '.join(counts)} |\n")
        print(rows[-1], end="", flush=True)  # noqa: T201 - a command
    PAGE.write_text(_HEAD + "".join(rows))


if __name__ == "__main__":
    main()

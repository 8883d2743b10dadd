"""The table of speeds: measured, printed and written as the reference says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.simulation.speed import PAGE, SCENARIOS, Speed, measure, table, write

from tercet_testing import Simulation, simulate
from tercet_testing.suite import Totals


@simulate(seeds=1)
async def _rest(sim: Simulation) -> None:
    await sim.broker()
    client = await sim.client("client")
    async with client.subscribe("news/#") as news:
        await client.publish("news/x", 1)
        await news.receive()
    await sim.sleep(100)


def test_measure_adds_up_what_the_runs_did() -> None:
    speed = measure("rest", _rest, 2)
    assert speed.totals.runs == 2
    assert speed.totals.deliveries == 2
    assert 200 <= speed.totals.seconds < 210
    assert speed.seconds > 0


def test_row_has_two_figures_of_a_run_and_three_rates() -> None:
    speed = Speed("an hour", Totals(runs=2, steps=9000, seconds=7200.0, deliveries=300), 1.5)
    assert speed.row == "| an hour | 3,600 | 0.75 | 4,800 | 200 | 6,000 |"


def test_table_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- speed: begin -->\nold\n<!-- speed: end -->\nafter\n")
    write(page, "new")
    assert page.read_text() == "before\n<!-- speed: begin -->\n\nnew\n\n<!-- speed: end -->\nafter\n"
    page.write_text("no place")
    with pytest.raises(ValueError, match="has no <!-- speed: begin -->"):
        write(page, "new")


def test_reference_has_a_row_for_every_scenario() -> None:
    published = PAGE.read_text()
    assert table([]).splitlines()[0] in published
    assert [what for what, _, _ in SCENARIOS if f"| {what} | " not in published] == []

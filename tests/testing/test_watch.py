"""A run that will never end, ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tercet_testing import Simulation, Suite, run_seed
from tercet_testing.watch import StuckError


async def waits_for_nothing(sim: Simulation) -> None:
    """The broker's heartbeats go on and on, so this is no deadlock."""
    await sim.broker()
    client = await sim.client("screen")
    async with client.subscribe("a/b") as nothing:
        await nothing.receive()


def test_scenario_that_waits_for_ever_is_ended_and_says_where() -> None:
    outcome = run_seed(waits_for_nothing, 0, limit=300.0)
    assert isinstance(outcome.error, StuckError)
    assert "300 virtual seconds" in str(outcome.error)
    assert "SimulatedSubscription.next_event" in str(outcome.error) or "Feed.next" in str(outcome.error)


def test_scenario_may_take_its_time_within_the_limit() -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.sleep(299)

    assert run_seed(scenario, 0, limit=300.0).error is None


async def fails(sim: Simulation) -> None:
    runs.append(sim.seed)
    await trio.sleep(1)
    raise KeyError("what the scenario says")


runs: list[int] = []


def test_replay_runs_once_and_raises_what_the_scenario_raised(tmp_path: Path) -> None:
    """So that prints and a debugger show the run that fails."""
    runs.clear()
    with pytest.raises(KeyError, match="what the scenario says"):
        Suite("fails", fails, traces=tmp_path).replay_one(7)
    assert runs == [7]
    assert [path.name for path in tmp_path.iterdir()] == ["fails-7-starve.trace"]

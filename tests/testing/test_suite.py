"""Many seeds of a scenario: what is run, what is demanded, and what a failure says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from tercet_testing import NeverReachedError, NotDeterminedError, Simulation, SimulationError, Suite, run_seed
from tercet_testing.running import Scenario
from tercet_testing.suite import REPEAT_EVERY, Totals


async def _passes(sim: Simulation) -> None:
    await sim.broker()
    feed = await sim.client("feed")
    await feed.publish("news/x", 1)


async def _fails_sometimes(sim: Simulation) -> None:
    """Whoever comes first wins; it must be the first to be started."""
    order: list[int] = []

    async def run(number: int) -> None:
        await sim.sleep(1)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(run, number)
    assert order[-1] == 2, f"the order was {order}"


def test_run_adds_up() -> None:
    totals = Suite("passes", _passes).run(range(3))
    assert totals.runs == 3
    assert totals.steps > 100
    assert totals.seconds > 0.1


def test_seeds_take_the_policies_in_turn() -> None:
    suite = Suite("passes", _passes, policies=("fair", "ranked"))
    assert [suite.policy_of(seed) for seed in range(4)] == ["fair", "ranked", "fair", "ranked"]


def test_progress_is_told_after_each_seed() -> None:
    told: list[int] = []
    Suite("passes", _passes).run(range(3), lambda totals: told.append(totals.runs))
    assert told == [1, 2, 3]


def test_report_says_all_that_helps(tmp_path: Path) -> None:
    suite = Suite(
        "module::scenario",
        _fails_sometimes,
        policies=("fair",),
        replay=lambda seed, policy: f"again {seed} {policy}",
        traces=tmp_path / "traces",
    )
    with pytest.raises(SimulationError) as caught:
        suite.run(range(50))
    report = str(caught.value)
    found = re.match(r"module::scenario fails with seed (\d+) under policy 'fair':", report)
    assert found is not None
    seed = int(found.group(1))
    assert "AssertionError: the order was" in report
    assert f"replay it:  again {seed} fair" in report
    trace = tmp_path / "traces" / f"scenario-{seed}-fair.trace"
    assert f"its trace:  {trace}" in report
    assert "1.000000 " in trace.read_text()
    assert re.search(r"shrunk in \d+ runs; .* enough to fail:", report)
    assert "0 instead of 0 faults" in report
    assert re.search(r"1 instead of \d+ scheduling choices", report)
    assert "not minimal" not in report
    assert "1.000000 scheduling choice: " in report
    assert "it parts from a run that passes" in report
    assert isinstance(caught.value.__cause__, AssertionError)
    assert run_seed(_fails_sometimes, seed).error is not None


def _report(scenario: Scenario, tmp_path: Path) -> str:
    with pytest.raises(SimulationError) as caught:
        Suite("scenario", scenario, policies=("fair",), traces=tmp_path).run(range(50))
    return str(caught.value)


def test_report_of_what_always_fails_says_that_it_is_no_race(tmp_path: Path) -> None:
    async def scenario(sim: Simulation) -> None:
        await _passes(sim)
        raise AssertionError("for ever")

    report = _report(scenario, tmp_path)
    assert "it fails always, whatever chance does (no race)" in report
    assert "0 of" not in report


def test_report_of_what_chance_can_hide_does_not_say_so(tmp_path: Path) -> None:
    """It fails in the default order, and seed 0 takes another: a race all the same."""

    async def scenario(sim: Simulation) -> None:
        order: list[int] = []

        async def run(number: int) -> None:
            await sim.sleep(1)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(run, number)
        assert order[0] == 2

    for passing_first in (True, False):
        seeds = sorted(range(20), key=lambda seed: (run_seed(scenario, seed).error is None) is not passing_first)
        with pytest.raises(SimulationError) as caught:
            Suite("scenario", scenario, policies=("fair",), traces=tmp_path).run(seeds)
        report = str(caught.value)
        assert "no race" not in report
        assert re.search(r"seed \d+ under policy 'fair' passes, by another order", report)


def test_state_that_no_run_reaches_fails() -> None:
    async def scenario(sim: Simulation) -> None:
        sim.sometimes("here")
        sim.sometimes("there", condition=False)

    with pytest.raises(NeverReachedError, match=r"none of 2 runs was ever 'elsewhere', 'there'$"):
        Suite("scenario", scenario, sometimes=("elsewhere", "here")).run(range(2))


def test_state_that_one_run_reaches_is_enough() -> None:
    async def scenario(sim: Simulation) -> None:
        sim.sometimes("the third", sim.seed == 2)

    totals = Suite("scenario", scenario, sometimes=("the third",)).run(range(4))
    assert totals.reached == {"the third": 1}


def test_what_does_not_come_from_the_seed_is_found() -> None:
    runs = 0

    async def scenario(sim: Simulation) -> None:
        nonlocal runs
        runs += 1
        await sim.sleep(runs)

    with pytest.raises(NotDeterminedError, match=r"seed 0 left two different traces, from line \d+ on:"):
        Suite("scenario", scenario).run(range(1))


def test_every_so_many_seeds_one_runs_twice() -> None:
    seeds: list[int] = []

    async def scenario(sim: Simulation) -> None:
        seeds.append(sim.seed)

    Suite("scenario", scenario).run(range(REPEAT_EVERY + 1))
    assert [seed for seed in set(seeds) if seeds.count(seed) == 2] == [0, REPEAT_EVERY]


def test_totals_count_runs_that_reached_a_state() -> None:
    async def scenario(sim: Simulation) -> None:
        for _ in range(5):
            sim.sometimes("often")

    totals = Totals()
    for seed in range(3):
        totals = totals.plus(run_seed(scenario, seed))
    assert totals.reached == {"often": 3}


def test_report_says_when_it_gave_up(tmp_path: Path) -> None:
    suite = Suite("scenario", _fails_sometimes, policies=("ranked",), traces=tmp_path, shrink_budget=2)
    with pytest.raises(SimulationError, match=r"enough to fail \(not minimal: gave up after 2 runs\):"):
        suite.run(range(50))


def test_choices_that_are_counted_are_those_that_are_listed(tmp_path: Path) -> None:
    report = _report(_fails_sometimes, tmp_path)
    count = int(re.findall(r"(\d+) instead of \d+ scheduling", report)[0])
    shown = report.partition("it parts from")[0]
    assert len(re.findall(r"scheduling choice: ", shown)) == count


def test_held_back_tasks_are_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SimulationError) as caught:
        Suite("scenario", _fails_sometimes, policies=("ranked",), traces=tmp_path).run(range(50))
    assert "_fails_sometimes.run" in str(caught.value)


def test_limit_holds_for_runs_and_their_shrinking(tmp_path: Path) -> None:
    times: list[float] = []

    async def scenario(sim: Simulation) -> None:
        try:
            while True:
                await sim.sleep(10)
        finally:
            times.append(sim.now)

    with pytest.raises(SimulationError, match="StuckError"):
        Suite("scenario", scenario, traces=tmp_path, limit=100).run(range(1))
    assert len(times) > 1
    assert max(times) <= 110

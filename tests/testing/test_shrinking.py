"""A failing run is shrunk to the choices that it needs."""

from __future__ import annotations

import trio

from tercet_testing import Outcome, Simulation, run_seed
from tercet_testing.shrinking import first_difference, shrink


async def _racy(sim: Simulation) -> None:
    """Two tasks add one to a number, and look away in between; eight others only make noise."""
    number = 0

    async def add() -> None:
        nonlocal number
        seen = number
        await trio.lowlevel.checkpoint()
        number = seen + 1

    async def make_noise() -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(make_noise)
        await trio.sleep(1)
        nursery.start_soon(add)
        # The second begins a step later: only if the first is held back do they meet.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        nursery.start_soon(add)
    assert number == 2


def _failing(scenario: object = _racy, policy: str = "starve") -> Outcome:
    outcomes = (run_seed(_racy, seed, policy=policy) for seed in range(100))
    return next(outcome for outcome in outcomes if outcome.error is not None)


def test_race_shrinks_to_the_choices_it_needs() -> None:
    failed = _failing()
    assert len(failed.scheduling) > 10
    small = shrink(_racy, failed)
    assert 1 <= len(small.chosen.scheduling) <= 2
    assert set(small.chosen.scheduling) <= set(failed.scheduling)
    assert isinstance(small.outcome.error, AssertionError)
    assert small.runs <= 200


def test_shrunk_run_stands_beside_one_that_passes() -> None:
    small = shrink(_racy, _failing())
    assert small.passing is not None
    assert small.passing.error is None
    parting = first_difference(small.outcome.lines, small.passing.lines)
    assert parting is not None
    assert any("scheduling choice" in line for line in parting[1:])


def test_what_always_fails_needs_no_choice() -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        await sim.client("feed")
        raise ValueError("always")

    small = shrink(scenario, run_seed(scenario, 1, policy="starve"))
    assert (small.chosen.faults, small.chosen.delays, small.chosen.scheduling) == ((), (), ())
    assert small.runs <= 3
    assert small.passing is None


def test_faults_shrink_to_the_ones_that_matter() -> None:
    """Of twelve faults, the first reset is one too many."""

    async def scenario(sim: Simulation) -> None:
        done: list[str] = []

        async def harmless() -> None:
            done.append("harmless")

        async def harmful() -> None:
            done.append("harmful")

        await sim.chaos({"harmless": harmless, "too": harmless, "harmful": harmful}, times=12, every=(0, 5))
        assert done.count("harmful") < 3

    failed = next(o for o in (run_seed(scenario, seed) for seed in range(50)) if o.error is not None)
    assert len(failed.faults) == 12
    small = shrink(scenario, failed)
    assert len(small.chosen.faults) == 3
    assert sum("chaos: harmful" in line for line in small.outcome.lines) == 3
    assert not any("chaos: harmless" in line for line in small.outcome.lines)


def test_delays_shrink_to_the_late_one() -> None:
    """It fails if the second of two messages overtakes the first."""

    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        anna, bert, screen = [await sim.client(host) for host in ("anna", "bert", "screen")]
        async with screen.subscribe("news/x") as news, trio.open_nursery() as nursery:
            nursery.start_soon(anna.publish, "news/x", 1)
            await sim.sleep(0.010)
            nursery.start_soon(bert.publish, "news/x", 2)
            assert (await news.receive()).data == 1

    failed = next(o for o in (run_seed(scenario, seed) for seed in range(100)) if o.error is not None)
    small = shrink(scenario, failed)
    assert len(small.chosen.delays) <= 2
    assert len(small.chosen.scheduling) == 0
    assert any("late: anna -> broker" in line for line in small.outcome.lines)


def test_another_error_does_not_count() -> None:
    """Undoing a fault that brings up another error is no step in the right direction."""

    async def scenario(sim: Simulation) -> None:
        done: list[None] = []

        async def count() -> None:
            done.append(None)

        await sim.chaos({"count": count}, times=4, every=(0, 1))
        if len(done) == 4:
            raise ValueError("all")
        raise KeyError("some")

    small = shrink(scenario, run_seed(scenario, 0))
    assert isinstance(small.outcome.error, ValueError)
    assert len(small.chosen.faults) == 4


def test_budget_is_kept() -> None:
    small = shrink(_racy, _failing(), budget=5)
    assert small.runs <= 5
    assert isinstance(small.outcome.error, AssertionError)


def test_first_difference() -> None:
    assert first_difference("abc", "abc") is None
    assert first_difference(["a", "b"], ["a", "c"]) == (2, "b", "c")
    assert first_difference(["a", "b"], ["a"]) == (2, "b", "(its end)")
    assert first_difference(["a"], ["a", "b"]) == (2, "(its end)", "b")

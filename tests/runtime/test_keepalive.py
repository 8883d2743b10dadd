from __future__ import annotations

import math

import pytest
import trio
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from tercet_broker.runtime.keepalive import Deadlines, round_up


@define(eq=False)
class Recorder:
    again: list[float] = field(factory=list)
    look_at: float = math.inf
    looks: list[float] = field(factory=list)

    def look(self, now: float) -> float:
        self.looks.append(now)
        return self.again.pop(0) if self.again else math.inf


async def test_deadline_is_looked_at_exactly_then(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    deadlines = Deadlines()
    nursery.start_soon(deadlines.run)
    timed = Recorder([12.5, 20.0])
    deadlines.schedule(timed, 10.0)
    await trio.sleep(100)
    assert timed.looks == [10.0, 12.5, 20.0]
    assert len(deadlines) == 0
    assert timed.look_at == math.inf


async def test_deadline_may_be_moved_both_ways(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    deadlines = Deadlines()
    sooner, later, never = Recorder(), Recorder(), Recorder()
    for timed in (sooner, later, never):
        deadlines.schedule(timed, 10.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(1)
    deadlines.schedule(sooner, 2.0)
    deadlines.schedule(later, 30.0)
    deadlines.schedule(never, math.inf)
    await trio.sleep(100)
    assert (sooner.looks, later.looks, never.looks) == ([2.0], [30.0], [])


async def test_past_deadline_is_looked_at_at_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    deadlines = Deadlines()
    nursery.start_soon(deadlines.run)
    await trio.sleep(5)
    timed = Recorder()
    deadlines.schedule(timed, 1.0)
    await trio.sleep(0.001)
    assert timed.looks == [5.0]


async def test_equal_deadlines_keep_their_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    deadlines = Deadlines()
    order: list[int] = []

    @define(eq=False)
    class Numbered:
        number: int
        look_at: float = math.inf

        def look(self, now: float) -> float:
            assert now == 3.0
            order.append(self.number)
            return math.inf

    for number in range(20):
        deadlines.schedule(Numbered(number), 3.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(4)
    assert order == list(range(20))


class LoopPasses(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.count += 1


@pytest.mark.parametrize("count", [1, 1000])
async def test_what_is_due_together_is_one_wake_up(
    nursery: trio.Nursery, autojump_clock: MockClock, count: int
) -> None:
    deadlines, passes = Deadlines(), LoopPasses()
    timed = [Recorder([12.0]) for _ in range(count)]
    for one in timed:
        deadlines.schedule(one, 10.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(9)
    trio.lowlevel.add_instrument(passes)
    await trio.sleep(2)
    trio.lowlevel.remove_instrument(passes)
    assert all(one.looks == [10.0] for one in timed)
    assert passes.count <= 8 + count / 250, "jumps of the clock are passes as well"


async def test_others_have_their_turn_between_many_looks(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    deadlines, looks, between = Deadlines(), 0, list[int]()

    class Counted(Recorder):
        def look(self, now: float) -> float:
            nonlocal looks
            looks += 1
            return super().look(now)

    class Watcher(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
            nonlocal looks
            between.append(looks)
            looks = 0

    timed = [Counted() for _ in range(1000)]
    for one in timed:
        deadlines.schedule(one, 10.0)
    nursery.start_soon(deadlines.run)
    trio.lowlevel.add_instrument(Watcher())
    await trio.sleep(11)
    assert sum(between) == 1000
    assert max(between) <= 256


async def test_who_moves_while_others_are_looked_at_is_looked_at_once(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """To another moment, and back again to this one."""
    deadlines, moved, gone = Deadlines(), Recorder(), Recorder()

    class Mover(Recorder):
        def look(self, now: float) -> float:
            for when in (20.0, now, 30.0, now):
                deadlines.schedule(moved, when)
            deadlines.schedule(gone, math.inf)
            return super().look(now)

    for timed in (Mover(), moved, gone):
        deadlines.schedule(timed, 10.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(50)
    assert (moved.looks, gone.looks, len(deadlines)) == ([10.0], [], 0)


@given(st.floats(0, 1e7), st.floats(0.01, 1e5))
@example(254.4, 30.0)
def test_rounding_is_up_and_by_a_fiftieth_at_most(when: float, timeout: float) -> None:
    """A look that came too soon would be put off to the same moment, again and again."""
    assert when <= round_up(when, timeout) <= when + timeout / 50 * 1.0001 + 1e-6


async def test_past_moment_scheduled_during_a_look_is_not_lost(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    deadlines, late = Deadlines(), Recorder()

    class Starter(Recorder):
        def look(self, now: float) -> float:
            deadlines.schedule(late, now - 3)
            return super().look(now)

    starters = [Starter(), Starter()]
    for starter in starters:
        deadlines.schedule(starter, 5.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(10)
    assert [starter.looks for starter in starters] == [[5.0], [5.0]]
    assert late.looks == [5.0]


@pytest.mark.parametrize("count", [1, 100])
async def test_look_may_schedule_others(nursery: trio.Nursery, autojump_clock: MockClock, count: int) -> None:
    deadlines = Deadlines()
    others = [Recorder() for _ in range(count)]

    class Starter(Recorder):
        def look(self, now: float) -> float:
            for other in others:
                deadlines.schedule(other, now + 1)
            return math.inf

    deadlines.schedule(Starter(), 1.0)
    nursery.start_soon(deadlines.run)
    await trio.sleep(10)
    assert all(other.looks == [2.0] for other in others)

"""Turns: how much is done in one pass, that everybody has one, and what cancellation leaves behind."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from attrs import define, field

from tercet_broker.runtime.turns import Turns

PAGE = 0.0015  # seconds that a page takes: two of them are more than a pass has for them
READERS, PAGES = 7, 20


class HandClock(trio.abc.Clock):
    """A clock that passes by no time of its own."""

    def __init__(self) -> None:
        self.now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self.now else 999.0


@define(eq=False)
class Reading:
    """Readers that take one turn after the other, and how many there were in each pass."""

    clock: HandClock
    turns: Turns = field(factory=Turns)
    number: int = 0
    passes: Counter[int] = field(factory=Counter)
    read: Counter[int] = field(factory=Counter)

    def page(self, reader: int) -> None:
        self.clock.now += PAGE
        self.passes[self.number] += 1
        self.read[reader] += 1

    async def run(self, reader: int) -> None:
        for _ in range(PAGES):
            await self.turns.take(lambda: self.page(reader))
            await trio.lowlevel.checkpoint()


class PassCounter(trio.abc.Instrument):
    """Counts the passes of Trio's loop."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.reading.number += 1


def test_pages_share_a_pass_and_everybody_gets_on() -> None:
    """However many read, two pages of these are done in a pass: the one with which the share is used up is the last."""
    reading = Reading(HandClock())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for reader in range(READERS):
                nursery.start_soon(reading.run, reader)

    trio.run(main, clock=reading.clock, instruments=[PassCounter(reading)])
    assert reading.read == Counter(dict.fromkeys(range(READERS), PAGES))
    assert max(reading.passes.values()) == 2


async def test_turn_that_nobody_waits_for_is_at_once() -> None:
    """No other task runs in between."""
    turns, done = Turns(), list[int]()
    with trio.CancelScope() as scope:
        scope.cancel()
        for number in range(3):
            await turns.take(lambda: done.append(number))  # noqa: B023 - called at once
    assert done == [0, 1, 2]


def test_turn_now_is_there_while_the_pass_has_time() -> None:
    """And who waits for a turn ends what was refused: the next pass has its share again."""
    reading = Reading(HandClock())

    async def main() -> None:
        found = [reading.turns.take_now(lambda: reading.page(0)) for _ in range(4)]
        assert found == [True, True, False, False]
        await reading.turns.take(lambda: reading.page(0))
        assert reading.turns.take_now(lambda: reading.page(0))

    trio.run(main, clock=reading.clock)
    assert reading.read[0] == 4


def test_cancelled_reader_leaves_its_turn_to_others() -> None:
    """Wherever it waits: parked, for the next pass, or woken."""
    reading = Reading(HandClock())

    async def main() -> None:
        async with trio.open_nursery() as nursery, trio.open_nursery() as victims:
            for reader in range(READERS):
                (victims if reader % 2 else nursery).start_soon(reading.run, reader)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            victims.cancel_scope.cancel()

    trio.run(main, clock=reading.clock)
    assert [reading.read[reader] for reader in range(0, READERS, 2)] == [PAGES] * 4


def test_failing_step_leaves_its_turn_to_others() -> None:
    """Steps that fail take as long as pages; who waits behind them has all of his turns."""
    reading = Reading(HandClock())

    def fail() -> None:
        reading.clock.now += PAGE
        raise ValueError("a fault")

    async def failing() -> None:
        with pytest.raises(ValueError, match="a fault"):
            await reading.turns.take(fail)

    async def main() -> None:
        with trio.move_on_after(PAGE * PAGES * 100):
            async with trio.open_nursery() as nursery:
                for reader in range(3):
                    nursery.start_soon(reading.run, reader)
                for _ in range(PAGES):
                    nursery.start_soon(failing)

    trio.run(main, clock=reading.clock)
    assert [reading.read[reader] for reader in range(3)] == [PAGES] * 3

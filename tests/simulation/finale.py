"""How a scenario ends: everything heals, everybody gets a last message, and what was told is judged."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from tests.simulation.reader import Reader

import tercet
from tercet_protocol import parse_filter
from tercet_testing import NoProgressError, SimulatedClient, Simulation

_ROUNDS = 10  # of last messages: the first may fall into an overflow that is under way


async def conclude(
    sim: Simulation, feed: SimulatedClient, readers: Iterable[Reader], *, key_seconds: float = 300.0
) -> None:
    """Heal everything, see that every reader still gets what is published, and check the history."""
    await sim.settle()
    await hear_the_end(sim, feed, readers, key_seconds=key_seconds)


async def hear_the_end(
    sim: Simulation, feed: SimulatedClient, readers: Iterable[Reader], *, key_seconds: float = 300.0
) -> None:
    """See that every reader still gets what is published, and check the history, where there is nothing to heal."""
    readers = list(readers)
    topics = list(dict.fromkeys(reader.filter.replace("+", "end").replace("#", "end") for reader in readers))
    for number in range(_ROUNDS):
        end = f"the end {number}"
        for topic in topics:
            await feed.publish(topic, end)
        expected = [(reader, sum(parse_filter(reader.filter).matches(topic) for topic in topics)) for reader in readers]
        try:
            await sim.eventually(lambda: all(reader.data.count(end) == count for reader, count in expected), within=20)  # noqa: B023
        except NoProgressError:
            if number == _ROUNDS - 1:
                raise
        else:
            break
    # Those who vanished without a word are noticed by a heartbeat.
    await sim.eventually(lambda: _served() <= len(sim.clients), within=60)
    sim.history.assert_correct(key_seconds=key_seconds, quiet=True)


def _served() -> int:
    """Return how many connections are being served, by the tasks that there are."""
    count, nurseries = 0, list(_root().child_nurseries)
    while nurseries:
        for task in nurseries.pop().child_tasks:
            count += task.name.endswith("Connection.serve")
            nurseries += task.child_nurseries
    return count


def _root() -> trio.lowlevel.Task:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return root


def check_whole(reader: Reader, *, first: int = 1) -> None:
    """Demand that someone who reads all of a namespace has, or was told that he misses, each seq from `first` on."""
    epoch, seen = None, first - 1
    for event in reader.events:
        match event:
            case tercet.Message():
                if epoch is not None:
                    assert event.epoch == epoch, "the epoch changed without a gap"
                epoch = event.epoch
                assert event.seq == seen + 1, f"after {seen} came {event.seq}"
                seen = event.seq
            case tercet.Gap():
                assert event.through is not None
                assert event.epoch != epoch or event.through >= seen, f"a gap through {event.through} after {seen}"
                epoch, seen = event.epoch, event.through
            case _:
                pass

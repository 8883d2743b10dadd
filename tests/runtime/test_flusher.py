from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock

from tercet_broker.runtime.flusher import Flusher

if TYPE_CHECKING:
    from tests.runtime.conftest import Serve


@define(eq=False)
class Recorder:
    name: int
    log: list[int]
    then: Callable[[], None] = field(default=lambda: None)

    size: int = 0

    def flush(self, now: float) -> int:  # noqa: ARG002
        self.log.append(self.name)
        self.then()
        return self.size


def add_crowd(flusher: Flusher, log: list[int]) -> None:
    """Have a thousand on the list, numbered from 0, whose part of one fan-out was queued."""
    flusher.fan_out.is_for_crowd = True
    for name in range(1000):
        flusher.add(Recorder(name, log))
    flusher.fan_out.is_for_crowd = False


async def test_flusher_writes_in_the_order_of_the_calls(nursery: trio.Nursery) -> None:
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    for name in range(1000):
        flusher.add(Recorder(name, log))
    assert log == []
    await trio.testing.wait_all_tasks_blocked()
    assert log == list(range(1000))
    flusher.add(Recorder(1000, log))
    await trio.testing.wait_all_tasks_blocked()
    assert log[-1] == 1000


async def test_flusher_lets_others_have_their_turn(nursery: trio.Nursery) -> None:
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    await trio.testing.wait_all_tasks_blocked()
    for name in range(2000):
        flusher.add(Recorder(name, log))
    seen = []
    while len(log) < 2000:
        await trio.lowlevel.checkpoint()
        seen.append(len(log))
    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) <= 1024
    assert len(set(seen)) >= 3


async def test_flusher_lets_others_have_their_turn_after_many_bytes(nursery: trio.Nursery) -> None:
    """Writes that are large are few between two checkpoints; none is left out, and the order stays."""
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    await trio.testing.wait_all_tasks_blocked()
    for name in range(40):
        flusher.add(Recorder(name, log, size=1 << 20))
    seen = [0]
    while len(log) < 40:
        await trio.lowlevel.checkpoint()
        seen.append(len(log))
    assert max(b - a for a, b in itertools.pairwise(seen)) <= 4
    assert log == list(range(40))


async def test_few_do_not_wait_for_a_crowd_whose_part_was_queued(nursery: trio.Nursery) -> None:
    """Something else had the fan-out settled: all of the crowd are on the list before them."""
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    add_crowd(flusher, log)
    flusher.add(Recorder(1000, log))
    while not log:
        await trio.lowlevel.checkpoint()
    assert log[0] == 1000
    flusher.add(Recorder(1001, log))
    await trio.testing.wait_all_tasks_blocked()
    assert log.index(1001) < 400
    assert sorted(log) == list(range(1002))
    assert [name for name in log if name < 1000] == list(range(1000))


async def test_crowd_gets_on_whoever_else_writes(nursery: trio.Nursery) -> None:
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    add_crowd(flusher, log)
    for turn in range(20):
        for name in range(500):
            flusher.add(Recorder(2000 + 500 * turn + name, log))
        await trio.lowlevel.checkpoint()
    assert {*range(1000)} <= {*log}


async def test_flusher_takes_what_is_added_while_it_flushes(nursery: trio.Nursery) -> None:
    flusher, log = Flusher(), list[int]()
    nursery.start_soon(flusher.run)
    flusher.add(Recorder(1, log, then=lambda: flusher.add(Recorder(2, log))))
    await trio.testing.wait_all_tasks_blocked()
    assert log == [1, 2]


async def test_messages_of_one_pass_go_out_in_one_write(serve: Serve, tools: Any, autojump_clock: MockClock) -> None:
    async with serve() as broker:
        reader, writer = await broker.client(), await broker.client()
        await reader.ask(op="subscribe", id=2, filter="a/#")
        await trio.testing.wait_all_tasks_blocked()
        assert broker.listener is not None
        writes: list[bytes] = []
        stream = broker.listener.accepted[0]
        stream.on_send = lambda data: writes.append(bytes(data))
        await writer.raw(b"".join(tools.say(op="publish", topic="a/b", data=n) for n in range(100)))
        for n in range(100):
            await reader.expect("message", seq=n + 1, data=n)
        assert len(writes) == 1

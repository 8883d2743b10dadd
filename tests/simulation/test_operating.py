"""What an operator does while everybody is connected: reloads, and restarts with thousands of clients."""

from __future__ import annotations

import random
from collections import deque

import attrs
import trio
from attrs import define, field
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude, hear_the_end
from tests.simulation.reader import read

import tercet
from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import ConnectionSettings, Daemon, DaemonSettings, RateSettings
from tercet_testing import SimulatedBroker, SimulatedClient, Simulation, simulate


def _other_settings(chance: random.Random, old: DaemonSettings) -> DaemonSettings:
    """Return settings with which everybody can go on, but otherwise."""
    history = HistorySettings(messages=chance.choice([50, 500, 5000]))
    return attrs.evolve(
        old,
        broker=BrokerSettings(
            {"news": NamespaceSettings(history=history)} if chance.random() < 0.5 else {},
            NamespaceSettings(history=history, keys=chance.choice([1000, 10_000])),
            limits=LimitSettings(subscriptions=chance.randint(10, 100)),
        ),
        connections=ConnectionSettings(total=chance.randint(100, 1000)),
        rates=RateSettings(requests=chance.choice([100, 100_000])),
    )


@simulate(seeds=10, sometimes=["published between reloads"])
async def test_reload_during_traffic(sim: Simulation) -> None:
    """Nobody is disconnected, nothing is lost, repeated or out of order, however often it happens."""
    broker = await sim.broker(small_broker())
    feed = await sim.client("feed")
    screens = [await sim.client(f"screen{n}") for n in range(3)]
    readers = [await read(sim, screen, "news/#") for screen in screens]
    published = 0

    async def publish() -> None:
        nonlocal published
        for n in range(60):
            await feed.publish("news/x", n)
            published += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        for _ in range(10):
            before = published
            await sim.sleep(sim.random.uniform(0, 0.3))
            sim.sometimes("published between reloads", before < published < 60)
            broker.daemon.reload(_other_settings(sim.random, broker.daemon.settings))
    await conclude(sim, feed, readers)
    for reader in readers:
        assert not reader.gaps
        check_whole(reader)
    assert broker.statistics().opened == 4, "all are on their first connection"


_CROWD = 2000
_LISTENERS = 40  # of them subscribe
_RATE = 500  # accepts a second, and as many at once after a pause


@define(eq=False)
class _AcceptRate:
    """How many connections a broker accepts in a second; `check` is to be called after every step.

    Attributes:
        most: of any second so far, wherever it begins.
    """

    broker: SimulatedBroker
    most: int = 0
    _daemon: Daemon | None = None  # each life counts anew
    _accepted: int = 0  # by this one
    _newest: deque[float] = field(factory=deque)  # when those were accepted that are less than a second ago

    def check(self) -> None:
        if self.broker.daemon is not self._daemon:
            self._daemon, self._accepted = self.broker.daemon, 0
            self._newest.clear()
        accepted = self._daemon.admission.accepted
        if accepted == self._accepted:
            return
        now = trio.current_time()
        self._newest.extend([now] * (accepted - self._accepted))
        self._accepted = accepted
        while self._newest[0] <= now - 1:
            self._newest.popleft()
        self.most = max(self.most, len(self._newest))
        assert self.most <= 2 * _RATE, f"{self.most} in a second: a burst, and a second's worth, are {2 * _RATE}"


async def _gather(sim: Simulation) -> list[SimulatedClient]:
    """Start all clients, as fast as they are accepted; return when they are connected, by their numbers."""
    crowd: dict[int, SimulatedClient] = {}

    async def enter(number: int) -> None:
        await sim.sleep(number / _RATE)
        crowd[number] = await sim.client(f"c{number}")

    async with trio.open_nursery() as nursery:
        for number in range(_CROWD):
            nursery.start_soon(enter, number)
    return [crowd[number] for number in range(_CROWD)]


# (One seed, which runs twice: each takes a quarter of a minute. `--sim-seeds` runs more.)
@simulate(seeds=1, policies=["fair", "starve"], sometimes=["published while not all were back"])
async def test_reconnect_storm_after_a_restart(sim: Simulation) -> None:
    """2,000 clients are cut off at once: accepting keeps its rate, everyone is back, and no loss goes untold.

    With odd seeds the broker comes back with its memory, and nothing is lost.
    """
    # (At the end everybody is asked, one after the other: for so long, heartbeats would be most of what happens.)
    settings = attrs.evolve(small_broker(heartbeat=300), connections=ConnectionSettings(accepts=_RATE))
    broker = await sim.broker(settings)
    rate = _AcceptRate(broker)
    sim.always(rate.check)
    crowd = await _gather(sim)
    feed = crowd[0]
    readers = [await read(sim, client, "news/#") for client in crowd[:: _CROWD // _LISTENERS]]
    has_memory = sim.seed % 2 == 1

    def is_everyone_back() -> bool:
        return all(client.client.connected for client in crowd)

    async def publish() -> None:
        while True:
            await feed.publish("news/x", sim.now)
            sim.sometimes("published while not all were back", not is_everyone_back())
            await sim.sleep(sim.random.uniform(0, 0.3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await sim.sleep(sim.random.uniform(1, 2))
        await broker.restart(memory=has_memory)
        assert not is_everyone_back()
        await sim.eventually(is_everyone_back, within=120)
        nursery.cancel_scope.cancel()
    await hear_the_end(sim, feed, readers)
    admission = broker.daemon.admission
    assert admission.connections == _CROWD
    assert admission.paced > 0, "there were more than are let in at once"
    assert all(client.client.statistics().connections == 2 for client in crowd), "nobody was lost on the way"
    for reader in readers:
        assert [gap.reason for gap in reader.gaps] == ([] if has_memory else [tercet.GapReason.EPOCH])
        check_whole(reader)

"""What an operator does while everybody is connected: reloads, and restarts with thousands of clients."""

from __future__ import annotations

import random

import attrs
import structlog
import trio
import trio.lowlevel
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read
from trio.testing import MockClock

import tercet
from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import ConnectionSettings, Daemon, DaemonSettings, RateSettings, open_daemon
from tercet_testing import Simulation, simulate
from tercet_testing.memory import MemoryListener


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
_RATE = 500.0


async def test_reconnect_storm_after_a_restart(autojump_clock: MockClock) -> None:
    """2,000 clients are cut off at once: accepting keeps its rate, and everyone is back.

    Real clients and a real daemon over memory, in virtual time; not a
    simulation, which looks at every book after every step.
    """
    settings = attrs.evolve(small_broker(), connections=ConnectionSettings(accepts=_RATE))
    listener = MemoryListener()

    async def stay(number: int) -> None:
        async with tercet.connect(listener.url, dial=listener.dial, entropy=random.Random(number)):
            await trio.sleep_forever()

    async def settle(daemon: Daemon) -> None:
        accepted, began = 0, trio.current_time()
        while sum(session.is_connected for session in daemon.broker.sessions) < _CROWD:
            await trio.sleep(1)
            assert daemon.admission.accepted - accepted <= 2 * _RATE, "a burst of a second, and a second's worth"
            accepted = daemon.admission.accepted
            assert trio.current_time() - began < 120, f"{daemon.admission.connections} are there"

    with structlog.testing.capture_logs():
        async with trio.open_nursery() as nursery:
            first, second = (Daemon(settings, listeners=[listener], entropy=random.Random(0)) for _ in range(2))
            async with open_daemon(first):
                for number in range(_CROWD):
                    nursery.start_soon(stay, number)
                await settle(first)
            async with open_daemon(second):
                await settle(second)
                assert second.admission.connections == _CROWD
                assert second.admission.paced > 0
                nursery.cancel_scope.cancel()

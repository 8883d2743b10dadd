"""Simulated runs with all kinds of trouble, judged by the checker."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
import structlog
import trio
from attrs import define, field

import tercet
from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import DaemonSettings
from tercet_protocol import Position
from tercet_testing import SimulatedBroker, SimulatedClient, Simulation, run_seed

SETTINGS = DaemonSettings(
    broker=BrokerSettings(
        namespaces={
            "chat": NamespaceSettings(history=HistorySettings(messages=40, per_topic=3)),
            "prices": NamespaceSettings(history=HistorySettings(messages=1000)),
        },
        limits=LimitSettings(outbox_messages=64),
    )
)
TOPICS = ("chat/a", "chat/b/c", "prices/x", "prices/y", "plain/z")
FILTERS = ("chat/#", "chat/a", "prices/+", "prices/x", "plain/#", "+/#", "#")
HOSTS = ("anna", "bert", "cora", "dora")
LAST = 300.0  # virtual seconds; who subscribes beyond that stays


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """Log nothing: many brokers live and die here."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@define(eq=False)
class Applications:
    """What runs on the clients' hosts."""

    sim: Simulation
    over: trio.Event = field(factory=trio.Event)
    numbers: itertools.count[int] = field(factory=itertools.count)
    bookmarks: list[tuple[str, Position]] = field(factory=list)  # [(namespace, where somebody was)]

    async def publish(self, client: SimulatedClient, count: int) -> None:
        """Publish, now and then give up, and repeat some under their key."""
        sim = self.sim
        for _ in range(count):
            topic, retain, echo = sim.random.choice(TOPICS), sim.random.random() < 0.3, sim.random.random() < 0.8
            data = None if sim.random.random() < 0.05 else next(self.numbers) // sim.random.choice((1, 1, 2))
            key = f"key-{next(self.numbers):016d}" if sim.random.random() < 0.3 else None
            for _ in range(1 if key is None else sim.random.randint(1, 2)):
                await sim.sleep(sim.random.choice((0, 0, 0.05, 1.0, 6.0)))
                with trio.move_on_after(sim.random.choice((0.02, 5, 1000))), suppress(tercet.OutcomeUnknownError):
                    await client.publish(topic, data, retain=retain, key=key, echo=echo)

    async def listen(self, client: SimulatedClient) -> None:
        """Subscribe somewhere for a while, again and again; the last time until all is over."""
        sim = self.sim
        while True:
            end = sim.now + sim.random.choice((1.0, 10.0, 60.0, 300.0))
            with trio.CancelScope(deadline=end if end < LAST else math.inf):
                await self.listen_once(client)

    async def listen_once(self, client: SimulatedClient) -> None:
        sim = self.sim
        filter_, since, last = sim.random.choice(FILTERS), None, None
        retained = None if filter_[0] in "+#" else sim.random.choice((None, None, False))
        choice = sim.random.random()
        if choice < 0.3 and filter_[0] not in "+#":
            last = sim.random.randint(1, 60)
        elif choice > 0.7 and self.bookmarks:
            namespace, since = sim.random.choice(self.bookmarks[-20:])
            filter_ = f"{namespace}/#"
        pace, buffer = sim.random.choice((0, 0, 0, 0.3)), sim.random.choice((2, 50, 1000))
        async with client.subscribe(filter_, since=since, last=last, retained=retained, buffer=buffer) as subscription:
            while not self.over.is_set():
                await subscription.next_event()
                if subscription.position is not None:
                    self.bookmarks.append((filter_.partition("/")[0], subscription.position))
                await sim.sleep(pace)


def chaos_of(sim: Simulation, broker: SimulatedBroker) -> dict[str, Callable[[], Awaitable[None]]]:
    async def cut() -> None:
        host = sim.random.choice(HOSTS)
        sim.network.partition(host, "broker", one_way=sim.random.random() < 0.3)
        await sim.sleep(sim.random.choice((0.5, 12.0, 50.0)))
        sim.network.heal()

    async def freeze() -> None:
        sim.network.freeze(sim.random.choice(HOSTS))
        await sim.sleep(sim.random.choice((2.0, 40.0)))
        sim.network.heal()

    async def reset() -> None:
        sim.network.reset(sim.random.choice(HOSTS))

    async def restart() -> None:
        if broker.is_up:
            await broker.crash(silent=sim.random.random() < 0.5)
        await sim.sleep(sim.random.choice((0.1, 3.0)))
        await broker.start()

    async def drain() -> None:
        await broker.drain()
        await sim.sleep(0.5)
        await broker.start()

    return {"cut": cut, "freeze": freeze, "reset": reset, "cut again": cut, "restart": restart, "drain": drain}


async def trouble(sim: Simulation) -> None:
    broker = await sim.broker(SETTINGS)
    applications = Applications(sim)
    clients = [await sim.client(host) for host in HOSTS]
    async with trio.open_nursery() as nursery:
        for client in clients:
            for _ in range(2):
                nursery.start_soon(applications.publish, client, 20)
            for _ in range(3):
                sim.nursery.start_soon(applications.listen, client)
        await sim.chaos(chaos_of(sim, broker), times=12, every=(1.0, 25.0))
    sim.network.heal()
    await sim.sleep(max(0.0, LAST + 10 - sim.now))
    await sim.settle()
    await sim.sleep(120)
    sim.history.assert_correct(quiet=True)


@pytest.mark.parametrize("seed", range(24))
def test_checker_finds_nothing_wrong_with_real_runs(seed: int) -> None:
    outcome = run_seed(trouble, seed)
    if outcome.error is not None:
        raise outcome.error
    assert outcome.deliveries > 100

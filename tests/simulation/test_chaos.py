"""Everything at once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import Reader, read

import tercet
from tercet_testing import SimulatedBroker, SimulatedClient, Simulation, run_seed, simulate


async def _talk(sim: Simulation, client: SimulatedClient, pause: float) -> None:
    """Publish for ever, with an `outcome unknown` now and then."""
    number = 0
    while True:
        topic = sim.random.choice(["news/today", "news/later", "state/now"])
        number += 1
        try:
            await client.publish(topic, [client.host, number], retain=topic.startswith("state"))
        except tercet.OutcomeUnknownError:
            sim.sometimes("outcome unknown")
        await trio.sleep(sim.random.uniform(0, 2 * pause))


@define(eq=False)
class Trouble:
    """What happens to a broker and its clients: each method is one fault."""

    sim: Simulation
    broker: SimulatedBroker
    clients: list[SimulatedClient]
    latecomers: list[Reader] = field(factory=list)

    def someone(self) -> str:
        return self.sim.random.choice(self.clients).host

    async def cut(self) -> None:
        self.sim.network.partition(self.someone(), "broker", one_way=self.sim.random.random() < 0.5)

    async def cut_back(self) -> None:
        self.sim.network.partition("broker", self.someone(), one_way=True)

    async def reset(self) -> None:
        self.sim.network.reset(self.someone())

    async def storm(self) -> None:
        self.sim.network.reset("broker")

    async def freeze(self) -> None:
        self.sim.network.freeze(self.someone())

    async def slow_down(self) -> None:
        line = self.sim.network.link("broker", self.someone())
        line.rate, line.buffer = 2_000.0, 512

    async def speed_up(self) -> None:
        for client in self.clients:
            line = self.sim.network.link("broker", client.host)
            line.rate, line.buffer = math.inf, 64 * 1024

    async def heal(self) -> None:
        self.sim.network.heal()

    async def crash(self) -> None:
        await self.broker.crash(silent=self.sim.random.random() < 0.5)
        await self.sim.sleep(self.sim.random.uniform(0, 20))
        await self.broker.start(memory=self.sim.random.random() < 0.5)

    async def drain(self) -> None:
        self.sim.network.heal()
        await self.broker.drain()
        await self.broker.start(memory=self.sim.random.random() < 0.5)

    async def subscribe(self) -> None:
        random = self.sim.random
        reader = Reader(
            random.choice(self.clients), random.choice(["news/#", "news/later"]), last=random.choice([0, 9])
        )
        self.sim.nursery.start_soon(reader.run)
        self.latecomers.append(reader)

    @property
    def faults(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """All of them; what is likelier stands twice."""
        all_ = [self.cut, self.cut_back, self.reset, self.reset, self.storm, self.freeze, self.slow_down]
        all_ += [self.speed_up, self.heal, self.heal, self.crash, self.drain, self.subscribe]
        return {f"{fault.__name__}{'' if all_.index(fault) == n else ' too'}": fault for n, fault in enumerate(all_)}


@simulate(seeds=40, sometimes=["a gap", "resumed", "expired"])
async def test_chaos(sim: Simulation) -> None:
    """Faults of all kinds, at all times, to everybody: nothing is lost without a word."""
    broker = await sim.broker(small_broker(messages=40, outbox=12, heartbeat=5))
    feed, anna, bert = clients = [await sim.client(host) for host in ("feed", "anna", "bert")]
    readers = [await read(sim, client, "news/#", buffer=16) for client in clients]
    others = [await read(sim, anna, "state/now"), await read(sim, bert, "+/now"), await read(sim, feed, "news/today")]
    trouble = Trouble(sim, broker, clients)
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(_talk, sim, client, 0.7)
        await sim.chaos(trouble.faults, times=12, every=(0, 10))
        nursery.cancel_scope.cancel()
    await trouble.speed_up()
    await conclude(sim, feed, readers + others + trouble.latecomers)
    for reader in readers:
        sim.sometimes("a gap", reader.gaps)
        sim.sometimes("resumed", reader.client.client.statistics().connections > 1)
        sim.sometimes("expired", any(gap.reason == tercet.GapReason.EXPIRED for gap in reader.gaps))
        check_whole(reader)


async def _hour(sim: Simulation) -> None:
    """Five clients, twenty partitions, two restarts."""
    broker = await sim.broker(small_broker(messages=200))
    clients = [await sim.client(f"client{n}") for n in range(5)]
    readers = [await read(sim, client, "news/#") for client in clients]
    async with trio.open_nursery() as nursery:
        for client in clients[:2]:
            nursery.start_soon(_talk, sim, client, 60)
        for cut in range(20):
            host = sim.random.choice(clients).host
            sim.network.partition(host, "broker", one_way=sim.random.random() < 0.3)
            await sim.sleep(sim.random.uniform(10, 100))
            sim.network.heal()
            if cut in (6, 13):
                await broker.restart()
            await sim.sleep(sim.random.uniform(80, 130))
        await trio.sleep(max(0.0, 3600 - sim.now))
        nursery.cancel_scope.cancel()
    await conclude(sim, clients[0], readers)
    for reader in readers:
        check_whole(reader)


test_hour = simulate(seeds=3, limit=2 * 3600)(_hour)


def test_an_hour_of_virtual_time_is_few_steps() -> None:
    """What an hour costs are its scheduler steps; `python -m tests.simulation.speed` prints the seconds, about one."""
    outcome = run_seed(_hour, 0, policy="fair", limit=2 * 3600)
    outcome.check()
    assert outcome.seconds >= 3600
    assert outcome.steps < 40_000

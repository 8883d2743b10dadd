"""Nothing goes wrong: then nothing is slow, and nobody has to reconnect."""

from __future__ import annotations

import trio
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

from tercet_testing import SimulatedClient, Simulation, simulate

_SOON = 0.5  # virtual seconds: many times the way there and back


@simulate(seeds=36, sometimes=["two at once"])
async def test_everything_is_prompt(sim: Simulation) -> None:
    """Clients heal what is stuck, by heartbeats and new connections; here they have no need to."""
    await sim.broker(small_broker())
    clients = [await sim.client(f"client{n}") for n in range(3)]
    readers = [await read(sim, client, "news/#") for client in clients]
    under_way = 0

    async def publish(client: SimulatedClient) -> None:
        nonlocal under_way
        for n in range(12):
            under_way += 1
            with trio.fail_after(_SOON):
                await client.publish("news/x", [client.host, n])
            under_way -= 1
            sim.sometimes("two at once", under_way)
            await sim.sleep(sim.random.choice([0, 0, 0.05]))

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(publish, client)
    await sim.eventually(lambda: all(len(reader.seqs) == 36 for reader in readers), within=_SOON)
    await conclude(sim, clients[0], readers)
    for reader in readers:
        assert reader.client.client.statistics().connections == 1
        check_whole(reader)


@simulate(seeds=24, sometimes=["more than the wire takes at once"])
async def test_large_messages(sim: Simulation) -> None:
    """What is written in pieces arrives whole."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    sim.network.link("broker", "screen").buffer = 16 * 1024
    texts = [chr(ord("a") + n) * sim.random.choice([200, 9_000, 40_000]) for n in range(8)]
    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(feed.publish, "news/x", text)
    sim.sometimes("more than the wire takes at once", sum(map(len, texts)) > 100_000)
    await sim.eventually(lambda: len(reader.seqs) == 8, within=5)
    assert sorted(reader.data) == texts  # type: ignore[type-var]
    await conclude(sim, feed, [reader])
    assert screen.client.statistics().connections == 1

"""Planned stops: what was acknowledged is not lost, and everybody comes back."""

from __future__ import annotations

import trio
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

import tercet
from tercet_testing import SimulatedClient, Simulation, simulate


async def _publish_on(feed: SimulatedClient, acked: list[tercet.Published], count: int) -> None:
    for n in range(count):
        published = await feed.publish("news/x", [feed.host, n])
        acked.append(published)  # at once: others look at it


@simulate(seeds=60, sometimes=["published in both epochs", "acknowledged while draining"])
async def test_drain_during_publish(sim: Simulation) -> None:
    """All that was acknowledged reaches those who were live, before their connection is closed."""
    broker = await sim.broker(small_broker())
    epoch = broker.daemon.broker.epoch
    feeds = [await sim.client(f"feed{n}") for n in range(2)]
    screens = [await sim.client(f"screen{n}") for n in range(2)]
    readers = [await read(sim, screen, "news/#") for screen in screens]
    acked: list[tercet.Published] = []
    async with trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(_publish_on, feed, acked, 30)
        await sim.sleep(sim.random.uniform(0, 1))
        before = len(acked)
        await broker.drain()
        sim.sometimes("acknowledged while draining", len(acked) > before)
        await sim.sleep(sim.random.uniform(0, 3))
        await broker.start()
    await conclude(sim, feeds[0], readers)
    old = {item.position.seq for item in acked if item.position.epoch == epoch}
    sim.sometimes("published in both epochs", 0 < len(old) < len(acked))
    for reader in readers:
        got = {message.seq for message in reader.messages if message.epoch == epoch}
        assert old <= got, f"acknowledged and flushed, and yet not there: {sorted(old - got)}"
        assert [gap.reason for gap in reader.gaps] == [tercet.GapReason.EPOCH]
        check_whole(reader)


@simulate(seeds=24, sometimes=["back at different times"])
async def test_everybody_comes_back_spread_out(sim: Simulation) -> None:
    """Each is told when to come back, and does."""
    broker = await sim.broker(small_broker())
    feed = await sim.client("feed")
    screens = [await sim.client(f"screen{n}") for n in range(4)]
    readers = [await read(sim, screen, "news/#") for screen in screens]
    await broker.drain()
    await broker.start()
    back: dict[str, float] = {}
    async with trio.open_nursery() as nursery:
        for screen in screens:

            async def come(screen: SimulatedClient = screen) -> None:
                await screen.client.wait_connected()
                back[screen.host] = sim.now

            nursery.start_soon(come)
    sim.sometimes("back at different times", max(back.values()) - min(back.values()) > 1)
    assert max(back.values()) < 2 * 5 + 31
    await conclude(sim, feed, readers)


@simulate(seeds=24, sometimes=["slow to the end"])
async def test_queues_are_flushed_before_the_close(sim: Simulation) -> None:
    """A reader on a slow line still gets what was queued for it when the stop began."""
    broker = await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    line = sim.network.link("broker", "screen")
    line.rate, line.buffer = 4000, 2048
    for n in range(30):
        await feed.publish("news/x", [n, "x" * 200])
    sim.sometimes("slow to the end", len(reader.seqs) < 30)
    await broker.drain()
    await broker.start()
    await conclude(sim, feed, [reader])
    assert reader.seqs[:30] == list(range(1, 31))

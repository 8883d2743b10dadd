"""Subscriptions that begin, end and overlap while messages are under way."""

from __future__ import annotations

import trio
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import Reader, read

import tercet
from tercet_testing import SimulatedClient, Simulation, simulate


async def _publish(feed: SimulatedClient, topics: list[str], count: int, pause: float = 0.0) -> None:
    for n in range(count):
        await feed.publish(topics[n % len(topics)], n)
        if pause:
            await trio.sleep(pause)


@simulate(seeds=72, sometimes=["reconnected"])
async def test_overlapping_filters(sim: Simulation) -> None:
    """However many filters of a connection match, each subscription gets each message once."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    readers = [await read(sim, screen, filter_) for filter_ in ("news/#", "news/+", "news/today", "news/+", "#")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish, feed, ["news/today", "news/later"], 24)
        await sim.sleep(sim.random.uniform(0, 1))
        if sim.random.random() < 0.4:
            sim.network.reset("screen")
        await readers[2].stop()
        readers[2] = await read(sim, screen, "news/today", retained=False)
    await sim.settle()
    await sim.sleep(1)
    before = screen.client.statistics()
    await feed.publish("news/today", "once")
    await sim.sleep(1)
    if screen.client.statistics().connections == before.connections:
        assert screen.client.statistics().received - before.received == 1
    sim.sometimes("reconnected", screen.client.statistics().connections > 1)
    await conclude(sim, feed, readers)
    for reader in readers:
        assert reader.data.count("once") == 1
        places = [(message.topic, message.seq) for message in reader.messages]
        assert len(set(places)) == len(places)
    for reader in (readers[0], readers[1], readers[3]):
        check_whole(reader)


@simulate(seeds=45, sometimes=["replayed", "got live what it subscribed amid"])
async def test_subscribes_racing_with_publishes(sim: Simulation) -> None:
    """From where a subscription took effect, nothing is missing and nothing comes twice."""
    await sim.broker(small_broker())
    feeds = [await sim.client(f"feed{n}") for n in range(2)]
    screens = [await sim.client(f"screen{n}") for n in range(2)]
    readers: list[Reader] = []
    async with trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(_publish, feed, ["news/x"], 20)
        for turn in range(3):
            for screen in screens:
                await sim.sleep(sim.random.choice([0, 0.02, 0.1]))
                readers.append(await read(sim, screen, "news/#", last=sim.random.choice([None, 0, 3, 100]), buffer=64))
            if turn == 1:
                await readers[0].stop()
                del readers[0]
    await conclude(sim, feeds[0], readers)
    for reader in readers:
        sim.sometimes("replayed", bool(reader.last) and reader.seqs)
        sim.sometimes("got live what it subscribed amid", not reader.last and len(reader.seqs) > 2)
        assert not reader.gaps
        check_whole(reader, first=reader.seqs[0])


@simulate(seeds=45, sometimes=["while messages were under way", "overrun"])
async def test_replays_racing_with_a_log_that_is_trimmed(sim: Simulation) -> None:
    """`since` and `last` on a log of a few messages that turns over meanwhile: what is missing is told."""
    await sim.broker(small_broker(messages=12, outbox=8))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    start = (await feed.publish("news/x", "first")).position
    line = sim.network.link("broker", "screen")
    readers: list[Reader] = []
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(_publish, feed, ["news/x", "news/y"], 16)
        await sim.sleep(sim.random.uniform(0, 0.5))
        line.buffer = 600
        readers.append(await read(sim, screen, "news/#", since=start))
        readers.append(await read(sim, screen, "news/+", last=sim.random.choice([1, 12, 100])))
        sim.sometimes("while messages were under way", nursery.child_tasks)
    line.buffer = 64 * 1024
    await conclude(sim, feed, readers)
    sim.sometimes("overrun", any(gap.reason == "overflow" for reader in readers for gap in reader.gaps))
    check_whole(readers[0], first=2)
    if readers[1].seqs and not readers[1].gaps:
        check_whole(readers[1], first=readers[1].seqs[0])


@simulate(seeds=45, sometimes=["left amid messages"])
async def test_unsubscribes_racing_with_deliveries(sim: Simulation) -> None:
    """After it has left nothing comes for it, and the broker has forgotten it."""
    broker = await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    stays = await read(sim, screen, "news/x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish, feed, ["news/x", "news/y"], 20)
        for _ in range(4):
            leaver = await read(sim, screen, sim.random.choice(["news/y", "news/+"]), last=sim.random.choice([None, 5]))
            await sim.sleep(sim.random.choice([0, 0.01, 0.05, 0.2]))
            await leaver.stop()
            sim.sometimes("left amid messages", leaver.messages)
    await screen.ping()  # an answer comes after that to the last `unsubscribe`
    await sim.sleep(0.2)
    session = next(s for s in broker.daemon.broker.sessions if s.statistics().subscriptions)
    assert session.statistics().subscriptions == 1
    before = screen.client.statistics().received
    for n in range(3):
        await feed.publish("news/y", ["nobody's", n])
    await screen.ping()
    await sim.sleep(0.2)
    assert screen.client.statistics().received == before, "it unsubscribed, and still gets messages"
    await conclude(sim, feed, [stays])
    assert not stays.gaps


@simulate(seeds=45, sometimes=["a retained value", "nothing kept yet"])
async def test_retained_values_racing_with_subscribes(sim: Simulation) -> None:
    """Whoever subscribes has the last value, and every later one; never an older one after a newer."""
    await sim.broker(small_broker(messages=None))
    feeds = [await sim.client(f"feed{n}") for n in range(2)]
    screens = [await sim.client(f"screen{n}") for n in range(2)]
    readers: list[Reader] = []

    async def update(feed: SimulatedClient) -> None:
        for n in range(8):
            await feed.publish(f"state/{n % 2}", [feed.host, n], retain=True)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(update, feed)
        for _ in range(2):
            for screen in screens:
                await sim.sleep(sim.random.choice([0, 0.01, 0.1]))
                readers.append(await read(sim, screen, "state/+"))
                readers.append(await read(sim, screen, "state/0"))
    await sim.settle()
    await sim.sleep(1)
    pages = [await read(sim, screens[0], f"state/{n}") for n in range(2)]
    await sim.eventually(lambda: all(page.messages for page in pages), within=5)
    newest = {page.messages[0].topic: page.messages[0].seq for page in pages}
    for reader in readers:
        for topic in ("state/0", "state/1"):
            seqs = [message.seq for message in reader.messages if message.topic == topic]
            assert seqs == sorted(set(seqs))
            if seqs or reader.filter == topic:
                assert seqs[-1] == newest[topic]
        live = [message.seq for message in reader.messages if not message.retained]
        if reader.filter == "state/+" and live:
            assert live == list(range(live[0], live[-1] + 1))
        has_value = bool(reader.messages) and reader.messages[0].retained
        sim.sometimes("a retained value" if has_value else "nothing kept yet")
    await conclude(sim, feeds[0], readers + pages)


@simulate(seeds=36, sometimes=["reconnected", "only once connected"])
async def test_filters_that_span_namespaces(sim: Simulation) -> None:
    """They cannot resume; so each new connection is a gap, and between gaps nothing is missing."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader, whole = await read(sim, screen, "+/x"), await read(sim, screen, "news/x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish, feed, ["news/x", "chat/x"], 20, 0.05)
        await sim.sleep(sim.random.uniform(0, 2))
        if sim.random.random() < 0.7:
            sim.network.reset("screen")
    await conclude(sim, feed, [reader, whole])
    connections = screen.client.statistics().connections
    sim.sometimes("reconnected" if connections > 1 else "only once connected")
    assert [gap.reason for gap in reader.gaps] == ["reconnected"] * (connections - 1)
    assert not whole.gaps
    seen: dict[str, int] = {}
    for event in reader.events:
        if isinstance(event, tercet.Message):
            name = event.topic.partition("/")[0]
            assert event.seq == seen.get(name, event.seq - 1) + 1
            seen[name] = event.seq
        elif isinstance(event, tercet.Gap):
            seen.clear()

"""Publishes: once each, in order, and only to whom they are for."""

from __future__ import annotations

import json
from typing import TypeGuard

import trio
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

import tercet
from tercet_testing import SimulatedClient, Simulation, simulate
from tercet_testing.events import Event, Publishing


@simulate(seeds=45, sometimes=["answered as a duplicate", "sent again", "outcome unknown", "just in time"])
async def test_connection_is_cut_between_publish_and_ack(sim: Simulation) -> None:
    """The key makes it once, and where it cannot, the publisher is told that the outcome is unknown."""
    broker = await sim.broker(small_broker(key_seconds=20))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    unknown: list[object] = []

    async def publish(data: object) -> None:
        try:
            published = await feed.publish("news/x", data)
        except tercet.OutcomeUnknownError:
            unknown.append(data)
        else:
            sim.sometimes("answered as a duplicate", published.duplicate)

    for round_ in range(3):
        async with trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(publish, [round_, n])
            sim.network.partition("broker", "feed", one_way=True)
            await sim.sleep(sim.random.choice([0, 0.01, 0.05, 0.1]))
            sim.network.partition("broker", "feed")
            sim.network.reset("feed")
            away = sim.random.choice([0, 2, 15, 19, 22])
            await sim.sleep(away)
            sim.network.heal()
            await feed.client.wait_connected()
            sim.sometimes("just in time", away == 19 and not unknown)
    sim.sometimes("sent again", feed.client.statistics().resent)
    sim.sometimes("outcome unknown", unknown)
    await conclude(sim, feed, [reader], key_seconds=20)
    for data in [[round_, n] for round_ in range(3) for n in range(3)]:
        assert reader.data.count(data) == 1 or (data in unknown and data not in reader.data)
    assert broker.statistics().namespaces[0].head == len(reader.seqs)
    check_whole(reader)


@simulate(seeds=36, sometimes=["sent again"])
async def test_several_tasks_of_one_client(sim: Simulation) -> None:
    """Each task's messages keep their order, over a cut as well."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")

    async def work(task: int) -> None:
        for n in range(6):
            await feed.publish(f"news/{task}", n)

    async def burst() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(6):
                nursery.start_soon(feed.publish, "news/burst", n)

    async with trio.open_nursery() as nursery:
        for task in range(4):
            nursery.start_soon(work, task)
        nursery.start_soon(burst)
        for _ in range(2):
            await sim.sleep(sim.random.uniform(0, 0.3))
            sim.network.reset("feed")
    sim.sometimes("sent again", feed.client.statistics().resent)
    await conclude(sim, feed, [reader])
    for task in range(4):
        assert [message.data for message in reader.messages if message.topic == f"news/{task}"] == list(range(6))
    sent = [json.loads(event.data) for event in sim.history.events if is_publish(event, "news/burst")]
    assert [message.data for message in reader.messages if message.topic == "news/burst"] == sent
    check_whole(reader)


def is_publish(event: Event, topic: str) -> TypeGuard[Publishing]:
    return isinstance(event, Publishing) and event.topic == topic


@simulate(seeds=36, sometimes=["from the log"])
async def test_echo_false(sim: Simulation) -> None:
    """The connection that publishes does not get it, neither live nor from the log; the others do."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    mine, theirs = await read(sim, feed, "news/#"), await read(sim, screen, "news/#")

    async def publish(client: SimulatedClient, echo: bool) -> None:
        for n in range(10):
            await client.publish("news/x", [client.host, echo, n], echo=echo)

    async with trio.open_nursery() as nursery:
        for client in (feed, screen):
            for echo in (True, False):
                nursery.start_soon(publish, client, echo)
        await sim.sleep(sim.random.uniform(0, 1))
        late = await read(sim, feed, "news/+", last=sim.random.choice([None, 100]))
    await sim.sleep(1)
    sim.sometimes("from the log", late.last)
    for reader, host, other in ((mine, "feed", "screen"), (theirs, "screen", "feed"), (late, "feed", "screen")):
        got = [data for data in reader.data if isinstance(data, list)]
        assert not [data for data in got if data[0] == host and not data[1]], "it got its own"
        if reader is not late:
            assert [data[2] for data in got if data[0] == other and not data[1]] == list(range(10))
    await conclude(sim, feed, [mine, theirs, late])


@simulate(seeds=36, sometimes=["several pages", "went on meanwhile", "lost something"])
async def test_history_paging_during_publishes(sim: Simulation) -> None:
    """Page after page, until nothing is left: each message once, and what is gone is told."""
    await sim.broker(small_broker(messages=sim.random.choice([12, 1000])))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    since = (await feed.publish("news/x", "first")).position
    first = since.seq
    heads = set()
    expected = first + 1

    async def publish() -> None:
        for n in range(30):
            await feed.publish("news/x", n)

    pages, goes_on = 0, True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        while goes_on:
            is_publishing = bool(nursery.child_tasks)
            page = await screen.client.history("news/#", since=since, limit=4)
            if sim.random.random() < 0.2:
                sim.network.reset("screen")
            pages, goes_on = pages + 1, is_publishing or page.more
            heads.add(page.head.seq)
            if page.gap is not None:
                assert page.gap.through is not None
                sim.sometimes("lost something")
                expected = page.gap.through + 1
            for message in page.messages:
                assert message.seq == expected
                expected += 1
            since = page.next
            assert since.seq == expected - 1
    assert expected == first + 31
    sim.sometimes("several pages", pages > 3)
    sim.sometimes("went on meanwhile", len(heads) > 1)

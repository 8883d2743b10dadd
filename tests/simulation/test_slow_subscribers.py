"""Those who do not read: cut off, told the truth, and no burden to others."""

from __future__ import annotations

import math

from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import Reader, read

import tercet
from tercet_broker.core import Overflow
from tercet_testing import SimulatedBroker, SimulatedClient, Simulation, simulate


def _overflowed(broker: SimulatedBroker) -> int:
    return sum(space.account.dropped[key] for space in broker.statistics().namespaces for key in space.account.dropped)


@simulate(seeds=36, sometimes=["overflowed", "gap", "resumed without a gap"])
async def test_frozen_subscriber(sim: Simulation) -> None:
    """It overflows, is cut off with 4000, and resumes; the other one hears everything at once."""
    messages = sim.random.choice([40, 1000])
    broker = await sim.broker(small_broker(messages=messages, overflow=Overflow.DISCONNECT, outbox=8))
    feed, screen, other = await sim.client("feed"), await sim.client("screen"), await sim.client("other")
    reader, healthy = await read(sim, screen, "news/#"), await read(sim, other, "news/#")
    sim.network.link("broker", "screen").buffer = 2048
    sim.network.freeze("screen")
    for n in range(60):
        await feed.publish("news/x", [n, "x" * 100])
        await sim.sleep(sim.random.choice([0, 0.1]))
    await sim.sleep(0.2)
    assert len(healthy.seqs) == 60, "one who does not read delays another"
    sim.sometimes("overflowed", _overflowed(broker))
    await sim.sleep(sim.random.choice([0, 10, 60]))
    sim.network.thaw("screen")
    await conclude(sim, feed, [reader, healthy])
    sim.sometimes("gap", reader.gaps)
    sim.sometimes("resumed without a gap", screen.client.statistics().connections > 1 and not reader.gaps)
    check_whole(reader)
    check_whole(healthy)
    assert not healthy.gaps


@simulate(seeds=36, sometimes=["overflowed", "kept up"])
async def test_slow_line(sim: Simulation) -> None:
    """What the line does not take in time is fetched from the log, or missed with a gap."""
    broker = await sim.broker(small_broker(messages=64, overflow=Overflow.DISCONNECT, outbox=16))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#", last=10)
    line = sim.network.link("broker", "screen")
    line.rate, line.buffer = sim.random.choice([1_000, 4_000, 50_000]), 1024
    for n in range(60):
        await feed.publish("news/x", [n, "x" * 100])
    overflowed = _overflowed(broker) > 0
    sim.sometimes("overflowed", overflowed)
    sim.sometimes("kept up", not overflowed)
    await conclude(sim, feed, [reader])
    check_whole(reader)


@simulate(seeds=36, sometimes=["stepped back", "gap", "kept its subscription"])
async def test_slow_application(sim: Simulation) -> None:
    """Its client's buffer is full: for a while the broker waits, then the subscription steps back and resumes."""
    broker = await sim.broker(small_broker(messages=sim.random.choice([16, 1000])))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#", buffer=4, pace=sim.random.choice([0.01, 12]))
    quick = await read(sim, screen, "news/x")
    stepped_back = False
    for n in range(40):
        await feed.publish("news/x", n)
        stepped_back |= sum(session.subscriptions for session in broker.statistics().sessions) < 2
    await sim.sleep(9)
    stepped_back |= sum(session.subscriptions for session in broker.statistics().sessions) < 2
    reader.pace = 0
    await conclude(sim, feed, [reader, quick])
    sim.sometimes("stepped back" if stepped_back else "kept its subscription")
    sim.sometimes("gap", any(gap.reason == tercet.GapReason.EXPIRED for gap in reader.gaps))
    check_whole(reader)
    assert not quick.gaps


@simulate(seeds=24, sometimes=["stopped reading"])
async def test_replies_that_nobody_takes(sim: Simulation) -> None:
    """A publisher that does not read its acknowledgements is not read from, and goes on when it does."""
    broker = await sim.broker(small_broker(replies=4))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    sim.network.link("broker", "feed").buffer = 256
    sim.network.partition("broker", "feed", one_way=True)

    for n in range(60):
        sim.nursery.start_soon(feed.publish, "news/x", n)
    await sim.sleep(5)
    sim.sometimes("stopped reading", 0 < broker.statistics().namespaces[0].head < 60)
    sim.network.heal()
    await sim.eventually(lambda: len(reader.seqs) == 60, within=200)
    await conclude(sim, feed, [reader])
    check_whole(reader)


# The policies that keep a connection


async def _read_in_trouble(sim: Simulation, screen: SimulatedClient, feed: SimulatedClient) -> list[Reader]:
    """Publish more than a slow or frozen connection takes, while subscriptions come and go on it."""
    readers = [await read(sim, screen, "news/#")]
    line = sim.network.link("broker", "screen")
    line.buffer = 1024
    if sim.random.random() < 0.5:
        line.rate = sim.random.choice([1_000, 4_000])
    else:
        sim.network.freeze("screen")
    for n in range(80):
        await feed.publish(f"news/{sim.random.choice('abc')}", [n, "x" * 100])
        if n in {20, 50, 76}:
            late = Reader(screen, sim.random.choice(["news/a", "news/#"]), last=sim.random.choice([None, 5]))
            sim.nursery.start_soon(late.run)
            readers.append(late)
        await sim.sleep(sim.random.choice([0, 0, 0.05]))
    await sim.sleep(sim.random.choice([0, 2, 8]))
    line.rate = math.inf
    sim.network.thaw("screen")
    return readers


@simulate(seeds=36, sometimes=["was behind", "gap", "missed nothing"])
async def test_served_from_the_log(sim: Simulation) -> None:
    """`catch_up` [M-004]: the same messages, in order, once; a gap only where the log has moved on."""
    broker = await sim.broker(small_broker(messages=sim.random.choice([20, 1000]), outbox=8))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    readers = await _read_in_trouble(sim, screen, feed)
    sim.sometimes("was behind", any(session.behind for session in broker.statistics().sessions))
    await conclude(sim, feed, readers)
    for reader in readers[:1]:
        check_whole(reader)
    sim.sometimes("gap" if readers[0].gaps else "missed nothing")
    assert _overflowed(broker) == 0 or screen.client.statistics().connections > 1, "nothing is dropped but at a close"


@simulate(seeds=36, sometimes=["gap", "kept its connection"])
async def test_oldest_are_dropped(sim: Simulation) -> None:
    """`drop_oldest`: with a gap where they stood [G-003], and the connection stays."""
    await sim.broker(small_broker(overflow=Overflow.DROP_OLDEST, outbox=8))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    readers = await _read_in_trouble(sim, screen, feed)
    await conclude(sim, feed, readers)
    check_whole(readers[0])
    sim.sometimes("gap", readers[0].gaps)
    sim.sometimes("kept its connection", screen.client.statistics().connections == 1)


@simulate(seeds=36, sometimes=["conflated", "gap", "no gap"])
async def test_newest_take_the_place_of_older_ones(sim: Simulation) -> None:
    """`conflate` [M-010]: the last value of each topic always arrives."""
    sim.history.conflating = frozenset({"news"})
    broker = await sim.broker(small_broker(overflow=Overflow.CONFLATE, outbox=sim.random.choice([2, 16])))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    readers = await _read_in_trouble(sim, screen, feed)
    sim.sometimes("conflated", any(space.account.conflated for space in broker.statistics().namespaces))
    await conclude(sim, feed, readers)
    sim.sometimes("gap" if readers[0].gaps else "no gap")

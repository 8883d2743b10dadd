"""Those who do not read: cut off, told the truth, and no burden to others."""

from __future__ import annotations

from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

import tercet
from tercet_testing import SimulatedBroker, Simulation, simulate


def _overflowed(broker: SimulatedBroker) -> int:
    return sum(space.account.dropped[key] for space in broker.statistics().namespaces for key in space.account.dropped)


@simulate(seeds=36, sometimes=["overflowed", "gap", "resumed without a gap"])
async def test_frozen_subscriber(sim: Simulation) -> None:
    """It overflows, is cut off with 4000, and resumes; the other one hears everything at once."""
    broker = await sim.broker(small_broker(messages=sim.random.choice([40, 1000]), outbox=8))
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
    broker = await sim.broker(small_broker(messages=64, outbox=16))
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

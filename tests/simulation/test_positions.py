"""Positions and clocks: where somebody stands, and what time it is, are two things."""

from __future__ import annotations

from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

from tercet_testing import HostClock, Simulation, simulate
from tercet_testing.events import Acked


@simulate(seeds=45, sometimes=["resumed"])
async def test_rare_topic_in_a_busy_namespace(sim: Simulation) -> None:
    """Who hears nothing for long is told where the log is, and has no false gap after a cut."""
    await sim.broker(small_broker(messages=24))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    rare = await read(sim, screen, "news/rare")

    async def come_back() -> None:
        before = screen.client.statistics().connections
        sim.network.reset("screen")
        await sim.eventually(lambda: screen.client.statistics().connections > before, within=60)

    for round_ in range(2):
        if sim.random.random() < 0.3:
            await feed.publish("news/rare", ["before", round_])
        for n in range(sim.random.randrange(10, 60)):
            await feed.publish("news/busy", n)
            await sim.sleep(0.1)  # the log turns over in some seconds, and positions are looked after each second
        await come_back()
        sim.sometimes("resumed")
        await feed.publish("news/rare", round_)
        await sim.sleep(1)
        assert round_ in rare.data
    assert not rare.gaps, f"nothing was missed, and yet it was told {rare.gaps}"
    await conclude(sim, feed, [rare])


@simulate(seeds=36, sometimes=["resumed", "a quiet while"])
async def test_positions_age_in_time_as_well(sim: Simulation) -> None:
    """The log holds seconds: positions are told before they have expired."""
    await sim.broker(small_broker(seconds=20))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    rare = await read(sim, screen, "news/rare")
    for n in range(12):
        await feed.publish("news/busy", n)
        pause = sim.random.choice([1, 3, 8])
        sim.sometimes("a quiet while", pause == 8)
        await sim.sleep(pause)
    sim.network.reset("screen")
    await sim.eventually(lambda: screen.client.statistics().connections > 1, within=5)
    sim.sometimes("resumed")
    await feed.publish("news/rare", "now")
    await sim.eventually(lambda: "now" in rare.data, within=5)
    assert not rare.gaps
    await conclude(sim, feed, [rare])


@simulate(seeds=36, sometimes=["ahead", "behind"])
async def test_skewed_clocks(sim: Simulation) -> None:
    """A wrong wall clock stamps messages wrong, and changes nothing else: not the order, not what expires."""
    skew = sim.random.uniform(-2e8, 2e8)
    sim.sometimes("ahead" if skew > 0 else "behind")
    await sim.broker(small_broker(seconds=30), clock=HostClock(skew=skew, drift=sim.random.uniform(-0.5, 0.5)))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    for n in range(20):
        await feed.publish("news/x", n)
        await sim.sleep(sim.random.uniform(0, 5))
    late = await read(sim, screen, "news/x", last=100)
    await sim.sleep(0.2)
    acked = {event.position.seq: event.at for event in sim.history.events if isinstance(event, Acked)}
    for message in late.messages:
        assert sim.now - acked[message.seq] < 31, "it had expired"
    young = {seq for seq, at in acked.items() if sim.now - at < 29}
    assert young <= set(late.seqs), "it had not expired"
    await conclude(sim, feed, [reader, late])
    check_whole(reader)

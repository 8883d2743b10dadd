"""Connections break and come back; subscriptions go on where they were."""

from __future__ import annotations

import math

import trio
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

import tercet
from tercet_testing import Simulation, simulate


@simulate(seeds=36, sometimes=["published during a storm"])
async def test_reconnect_storm(sim: Simulation) -> None:
    """All connections are reset, again and again: nobody misses anything, for the log has it."""
    await sim.broker(small_broker())
    feed = await sim.client("feed")
    readers = [await read(sim, await sim.client(f"screen{n}"), "news/#", pace=n * 0.05) for n in range(3)]
    for storm in range(3):
        sim.network.reset("broker")
        for n in range(4):
            await feed.publish("news/today", [storm, n])
            sim.sometimes("published during a storm", not all(reader.client.client.connected for reader in readers))
            await sim.sleep(sim.random.uniform(0, 0.3))
    await conclude(sim, feed, readers)
    for reader in readers:
        assert reader.client.client.statistics().connections > 1
        assert not reader.gaps
        check_whole(reader)


@simulate(seeds=36, sometimes=["cut", "held up", "to the screen", "from the screen", "both ways"])
async def test_resume_across_a_partition(sim: Simulation) -> None:
    """One way or both, short or long enough for the heartbeats: nothing is missed."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    for n in range(3):
        await feed.publish("news/before", n)
    way = sim.random.choice(["to the screen", "from the screen", "both ways"])
    sim.sometimes(way)
    source, target = ("screen", "broker") if way == "from the screen" else ("broker", "screen")
    sim.network.partition(source, target, one_way=way != "both ways")
    until = sim.now + sim.random.choice([1, 20, 60])
    while sim.now < until:
        await feed.publish("news/during", sim.now)
        await sim.sleep(sim.random.uniform(0, 6))
    sim.network.heal()
    await feed.publish("news/after", 0)
    await conclude(sim, feed, [reader])
    was_cut = screen.client.statistics().connections > 1
    sim.sometimes("cut", was_cut)
    sim.sometimes("held up", not was_cut)
    assert not reader.gaps
    check_whole(reader)


@simulate(seeds=36, sometimes=["amid the replay", "started over"])
async def test_cut_amid_a_replay(sim: Simulation) -> None:
    """However often it begins anew: what was published since the first time it took effect comes, or is a gap."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    for n in range(16):
        await feed.publish(f"news/{n}", n, retain=True)  # they come first, and are no place to resume from
    for n in range(10):
        await feed.publish("news/x", n)
    line = sim.network.link("broker", "screen")
    line.rate, line.buffer = 10_000, 256
    reader = await read(sim, screen, "news/#", last=8)
    for n in range(3):
        await sim.sleep(sim.random.uniform(0, 0.2))
        sim.sometimes("amid the replay", len(reader.seqs) < 24)
        sim.network.reset("screen")
        await feed.publish("news/x", ["meanwhile", n])
        await sim.eventually(lambda: screen.client.connected, within=60)
    line.rate, line.buffer = math.inf, 64 * 1024
    await conclude(sim, feed, [reader])
    sim.sometimes("started over", any(gap.reason == tercet.GapReason.RECONNECTED for gap in reader.gaps))
    kept = [message.seq for message in reader.messages if not message.retained]
    assert kept == sorted(set(kept))
    missing = set(range(kept[0], kept[-1])) - set(kept)
    assert all(any((gap.after or 0) < seq <= (gap.through or 0) for gap in reader.gaps) for seq in missing)


@simulate(seeds=45, sometimes=["left something in the buffer", "had not begun"])
async def test_resume_from_a_stored_position(sim: Simulation) -> None:
    """An application that stores its position and ends loses and repeats nothing when it begins again there."""
    await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    first = await read(sim, screen, "news/#", pace=0.1)
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            for n in range(25):
                await feed.publish("news/x", n)

        nursery.start_soon(publish)
        await sim.sleep(sim.random.choice([0.05, 0.7, 1.4]))
        before = screen.client.statistics().buffered
        sim.sometimes("left something in the buffer", before)
        screen.kill(silent=sim.random.random() < 0.5)
        await first.ended.wait()
        sim.sometimes("had not begun", not first.seqs)
        await sim.sleep(sim.random.choice([0, 1]))
    second = await read(sim, await sim.client("screen again"), "news/#", since=first.position)
    await conclude(sim, feed, [second])
    seqs = first.seqs + second.seqs
    assert seqs == list(range(1, seqs[-1] + 1))


@simulate(seeds=36, sometimes=["expired", "recovered"])
async def test_resume_from_a_log_that_went_on(sim: Simulation) -> None:
    """Who was away for longer than the log holds is told what is missing, exactly."""
    await sim.broker(small_broker(messages=16))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    for _ in range(2):
        sim.network.partition("broker", "screen")
        sim.network.reset("screen")
        for n in range(sim.random.choice([4, 14, 17, 30])):
            await feed.publish("news/during", n)
        sim.network.heal()
        await sim.sleep(sim.random.uniform(0, 3))
    await conclude(sim, feed, [reader])
    sim.sometimes("expired", any(gap.reason == tercet.GapReason.EXPIRED for gap in reader.gaps))
    sim.sometimes("recovered", not reader.gaps)
    for gap in reader.gaps:
        assert gap.through is not None
        assert gap.after is not None
        assert gap.through > gap.after
    check_whole(reader)


@simulate(seeds=36, sometimes=["gone silently", "gone loudly", "replaced before it was missed"])
async def test_half_open_connections_are_noticed(sim: Simulation) -> None:
    """The broker forgets who vanished, by heartbeats if nobody tells it."""
    broker = await sim.broker(small_broker(heartbeat=5))
    feed = await sim.client("feed")
    screens = [await sim.client(f"screen{n}") for n in range(2)]
    readers = [await read(sim, screen, "news/#") for screen in screens]
    silent = sim.random.random() < 0.7
    sim.sometimes("gone silently" if silent else "gone loudly")
    screens[0].kill(silent=silent)
    again = sim.random.random() < 0.5
    if again:
        screens[0] = await sim.client("screen0")
        readers[0] = await read(sim, screens[0], "news/#")
        sim.sometimes("replaced before it was missed", len(broker.statistics().sessions) == 4)
    first = (await feed.publish("news/x", 1)).position.seq
    await sim.sleep(5 + 10 + 1)  # quiet, then a ping, then nothing; and the way
    assert len(broker.statistics().sessions) == 2 + again
    await conclude(sim, feed, readers if again else readers[1:])
    for reader in readers if again else readers[1:]:
        check_whole(reader, first=first)


@simulate(seeds=36, sometimes=["silent", "loud"])
async def test_broker_crashes_and_comes_back(sim: Simulation) -> None:
    """A new epoch: everybody is told, and publishes go on."""
    broker = await sim.broker(small_broker(heartbeat=5))
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    epochs = {(await feed.publish("news/x", 0)).position.epoch}
    for life in range(2):
        silent = sim.random.random() < 0.5
        sim.sometimes("silent" if silent else "loud")
        for n in range(4):
            await feed.publish("news/x", [life, n])
        await broker.crash(silent=silent)
        await sim.sleep(sim.random.uniform(0, 40))
        await broker.restart()
        epochs.add((await feed.publish("news/x", "anew")).position.epoch)
        await sim.eventually(lambda: "anew" in reader.data[-1:], within=60)
    await conclude(sim, feed, [reader])
    assert len(epochs) == 3
    assert [gap.reason for gap in reader.gaps] == [tercet.GapReason.EPOCH] * 2
    check_whole(reader)


@simulate(
    seeds=48,
    sometimes=["crash", "power failure", "drain", "published while it was down", "cut between publish and ack"],
)
async def test_broker_comes_back_with_its_memory(sim: Simulation) -> None:
    """Whatever was acked is still there: everybody resumes in the same epoch, without a gap, and without a repeat."""
    broker = await sim.broker(small_broker(heartbeat=5))
    feed = await sim.client("feed")
    screens = [await sim.client(f"screen{n}") for n in range(2)]
    readers = [await read(sim, screen, "news/#") for screen in screens]
    begun: list[float] = []
    acked: list[tercet.Published] = []

    async def publish() -> None:
        while broker.lives < 4:
            sim.sometimes("published while it was down", not broker.is_up)
            begun.append(sim.now)
            acked.append(await feed.publish("news/x", len(acked), retain=True))
            sim.sometimes("cut between publish and ack", acked[-1].duplicate)
            await sim.sleep(sim.random.uniform(0, 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        for _ in range(3):
            await sim.sleep(sim.random.uniform(0, 10))
            count = len(begun)
            await sim.eventually(lambda: len(begun) > count, within=60)  # noqa: B023 - awaited here
            await sim.sleep(sim.random.uniform(0, 0.05))  # about the time between a publish and its ack
            end = sim.random.choice(["crash", "power failure", "drain"])
            sim.sometimes(end)
            if end == "drain":
                await broker.drain()
            else:
                await broker.crash(silent=end == "power failure")
            accounts = broker.statistics().accounts
            assert sum(account.queued for account in accounts) == 0, "what was queued is dropped with its connection"
            assert not broker.statistics().sessions
            await sim.sleep(sim.random.uniform(0, 10))
            await broker.start(memory=True)
    late = await read(sim, await sim.client("late"), "news/#", retained=True)
    await conclude(sim, feed, [*readers, late])
    assert {published.position.epoch for published in acked} == {broker.daemon.broker.epoch}
    assert [published.position.seq for published in acked] == list(range(1, len(acked) + 1))
    assert late.messages[0].data == len(acked) - 1
    for reader in readers:
        assert not reader.gaps
        assert reader.client.client.statistics().connections > 1
        check_whole(reader)

"""The virtual network behaves as TCP between hosts does, and its faults as they do in the field."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
import trio.testing
from attrs import frozen
from trio.testing import MockClock

from tercet_testing import Network
from tercet_testing.chance import Choices
from tercet_testing.network import SimulatedListener, SimulatedStream


@frozen
class Pair:
    """A connection of host a to host b."""

    network: Network
    listener: SimulatedListener
    near: SimulatedStream
    far: SimulatedStream


@pytest.fixture
def network() -> Network:
    """One without chance: every segment takes 10 ms and is whole."""
    network = Network(Choices(0, kept=()))
    network.default.latency = (0.010, 0.010)
    return network


async def connect(network: Network) -> Pair:
    accepted: list[SimulatedStream] = []
    listener = network.listen("b")
    near = await network.dial("a", "b")
    wire = await listener.accept()
    stream = wire.stream  # type: ignore[attr-defined] # it is a StreamWire
    accepted.append(stream)
    return Pair(network, listener, near, stream)


@pytest.fixture
async def pair(network: Network) -> Pair:
    return await connect(network)


async def read_exactly(stream: SimulatedStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = await stream.receive_some()
        assert chunk, "it ended too early"
        data += chunk
    return data


def in_seconds(seconds: float) -> object:
    return pytest.approx(trio.current_time() + seconds)


# What always holds


async def test_handshake_takes_three_trips(autojump_clock: MockClock, network: Network) -> None:
    network.listen("b")
    expected = in_seconds(0.030)
    await network.dial("a", "b")
    assert trio.current_time() == expected


async def test_bytes_arrive_whole_and_in_order_whatever_chance_does(autojump_clock: MockClock) -> None:
    for seed in range(20):
        network = Network(Choices(seed))
        pair = await connect(network)
        sent = bytes(range(256)) * 40

        async def send(pair: Pair = pair, sent: bytes = sent) -> None:
            for start in range(0, len(sent), 1000):
                await pair.near.send_all(sent[start : start + 1000])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await read_exactly(pair.far, len(sent)) == sent


async def test_latencies_are_drawn_and_arrivals_on_ticks(autojump_clock: MockClock) -> None:
    arrivals = set()
    for seed in range(30):
        network = Network(Choices(seed))
        pair = await connect(network)
        await pair.near.send_all(b"x")
        begun = trio.current_time()
        await pair.far.receive_some()
        ticks = trio.current_time() / network.tick
        assert ticks == pytest.approx(round(ticks))
        arrivals.add(round((trio.current_time() - begun) / network.tick))
    assert arrivals == {1, 2, 3}


async def test_segments_are_cut_at_random_places(autojump_clock: MockClock) -> None:
    network = Network(Choices(3))
    sizes = {network.draw_cut(1000) for _ in range(200)}
    assert 1000 in sizes
    assert len(sizes) > 10
    assert min(sizes) >= 1


async def test_rate_delays(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.link("a", "b").rate = 1000
    expected = in_seconds(2 + 0.010)
    await pair.near.send_all(b"x" * 2000)
    await read_exactly(pair.far, 2000)
    assert trio.current_time() == expected


async def test_full_buffer_blocks_the_sender_until_the_reader_reads(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.link("a", "b").buffer = 100
    with trio.move_on_after(1) as patience:
        await pair.near.send_all(b"x" * 101)
    assert patience.cancelled_caught
    with trio.move_on_after(1) as patience:
        await pair.near.wait_send_all_might_not_block()
    assert patience.cancelled_caught
    assert await read_exactly(pair.far, 100) == b"x" * 100
    await pair.near.wait_send_all_might_not_block()


async def test_ways_are_independent(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.link("a", "b").latency = (1.0, 1.0)
    expected = in_seconds(1.010)
    await pair.near.send_all(b"there")
    await pair.far.receive_some()
    await pair.far.send_all(b"back")
    await pair.near.receive_some()
    assert trio.current_time() == expected


# Ends


async def test_half_close_is_read_as_the_end_and_the_other_way_goes_on(autojump_clock: MockClock, pair: Pair) -> None:
    await pair.near.send_all(b"last")
    await pair.near.send_eof()
    assert await read_exactly(pair.far, 4) == b"last"
    assert await pair.far.receive_some() == b""
    await pair.far.send_all(b"answer")
    assert await pair.near.receive_some() == b"answer"
    with pytest.raises(trio.ClosedResourceError):
        await pair.near.send_all(b"more")


async def test_close_lets_the_peer_read_to_the_end(autojump_clock: MockClock, pair: Pair) -> None:
    await pair.near.send_all(b"last")
    await pair.near.aclose()
    assert await read_exactly(pair.far, 4) == b"last"
    assert await pair.far.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await pair.far.send_all(b"to nobody")
    for use in (pair.near.receive_some, lambda: pair.near.send_all(b"x")):
        with pytest.raises(trio.ClosedResourceError):
            await use()


async def test_close_with_unread_input_resets(autojump_clock: MockClock, pair: Pair) -> None:
    await pair.far.send_all(b"unread")
    await trio.sleep(1)
    await pair.near.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await pair.far.receive_some()


async def test_reset_breaks_both_ends(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.reset("a")
    with pytest.raises(trio.BrokenResourceError):
        await pair.far.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await pair.far.send_all(b"x")


async def test_reset_wakes_whoever_waits(autojump_clock: MockClock, pair: Pair) -> None:
    async def expect_broken() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await pair.far.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken)
        await trio.testing.wait_all_tasks_blocked()
        pair.network.reset("a")


# Partitions


async def arrives(target: SimulatedStream, *, within: float = 5) -> bool:
    with trio.move_on_after(within) as patience:
        await target.receive_some()
    return not patience.cancelled_caught


async def test_partition_delays_and_does_not_lose(autojump_clock: MockClock, pair: Pair) -> None:
    await pair.near.send_all(b"before")
    pair.network.partition("a", "b")
    await pair.near.send_all(b", during")
    await pair.far.send_all(b"and back")
    assert not await arrives(pair.far)
    assert not await arrives(pair.near)
    pair.network.heal()
    expected = in_seconds(0.010)
    assert await read_exactly(pair.far, 14) == b"before, during"
    assert trio.current_time() == expected
    assert await pair.near.receive_some() == b"and back"


async def test_one_way_partition_lets_the_other_way_through(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.partition("a", "b", one_way=True)
    await pair.near.send_all(b"there")
    await pair.far.send_all(b"back")
    assert await arrives(pair.near)
    assert not await arrives(pair.far)
    pair.network.heal()
    assert await arrives(pair.far)


async def test_partition_concerns_nobody_else(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.partition("a", "b")
    other = await pair.network.dial("c", "b")
    await other.send_all(b"x")
    wire = await pair.listener.accept()
    assert await wire.receive(10) == b"x"
    assert wire.peer == "c"


async def test_dial_behind_a_partition_gives_up_as_tcp_does(autojump_clock: MockClock, network: Network) -> None:
    network.listen("b")
    network.add_host("a")
    network.partition("a", "b")
    expected = in_seconds(127)
    with pytest.raises(TimeoutError):
        await network.dial("a", "b")
    assert trio.current_time() == expected


async def test_dial_goes_on_when_it_heals(autojump_clock: MockClock, network: Network) -> None:
    network.listen("b")
    network.add_host("a")
    network.partition("b", "a", one_way=True)

    async def heal() -> None:
        await trio.sleep(3)
        network.heal()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heal)
        expected = in_seconds(3 + 0.020)
        await network.dial("a", "b")
    assert trio.current_time() == expected


# Hosts


async def test_nobody_listens(autojump_clock: MockClock, network: Network) -> None:
    with pytest.raises(ConnectionRefusedError):
        await network.dial("a", "b")


async def test_closed_listener_refuses_and_resets_those_that_wait(autojump_clock: MockClock, network: Network) -> None:
    listener = network.listen("b")
    waiting = await network.dial("a", "b")
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError):
        await network.dial("a", "b")
    with pytest.raises(trio.BrokenResourceError):
        await waiting.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()


async def test_power_failure_is_heard_of_when_the_host_is_back(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.power_off("b")
    await pair.near.send_all(b"hello?")
    assert not await arrives(pair.near, within=1000)
    pair.network.listen("b")
    assert not await arrives(pair.near, within=1000)  # it has forgotten, and is silent until asked
    await pair.near.send_all(b"hello?")
    with pytest.raises(trio.BrokenResourceError):
        await pair.near.receive_some()


async def test_sends_to_a_host_that_is_down_fill_the_buffer(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.power_off("b")
    with trio.move_on_after(10) as patience:
        await pair.near.send_all(b"x" * 100_000)
    assert patience.cancelled_caught


async def test_dial_to_a_host_that_is_down_gets_no_answer(autojump_clock: MockClock, network: Network) -> None:
    network.listen("b")
    network.power_off("b")
    with trio.move_on_after(60) as patience:
        await network.dial("a", "b")
    assert patience.cancelled_caught
    network.listen("b")
    await network.dial("a", "b")


async def test_frozen_host_neither_reads_nor_writes_and_loses_nothing(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.freeze("b")
    await pair.near.send_all(b"while frozen")
    assert not await arrives(pair.far)
    with trio.move_on_after(1) as patience:
        await pair.far.send_all(b"x")
    assert patience.cancelled_caught
    pair.network.thaw("b")
    assert await pair.far.receive_some() == b"while frozen"
    await pair.far.send_all(b"y")
    assert await pair.near.receive_some() == b"y"


async def test_heal_thaws(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.freeze("b")
    await pair.near.send_all(b"x")
    pair.network.heal()
    assert await arrives(pair.far)


# Cancellation


async def test_cancelled_receive_loses_nothing(autojump_clock: MockClock, pair: Pair) -> None:
    with trio.move_on_after(0.005):
        await pair.far.receive_some()
    await pair.near.send_all(b"whole")
    with trio.move_on_after(0.005):
        await pair.far.receive_some()
    assert await read_exactly(pair.far, 5) == b"whole"


async def test_cancelled_send_may_have_sent_a_part(autojump_clock: MockClock, pair: Pair) -> None:
    pair.network.link("a", "b").buffer = 100
    with trio.move_on_after(1):
        await pair.near.send_all(bytes(range(200)))
    assert await read_exactly(pair.far, 100) == bytes(range(100))
    await pair.near.send_all(b"next")
    assert await read_exactly(pair.far, 4) == b"next"


@pytest.mark.parametrize(
    "use",
    [
        lambda pair: pair.near.send_all(b"x"),
        lambda pair: pair.near.receive_some(),
        lambda pair: pair.near.wait_send_all_might_not_block(),
        lambda pair: pair.near.send_eof(),
        lambda pair: pair.listener.accept(),
        lambda pair: pair.network.dial("a", "b"),
    ],
    ids=["send_all", "receive_some", "wait", "send_eof", "accept", "dial"],
)
async def test_every_wait_is_a_checkpoint(autojump_clock: MockClock, pair: Pair, use: Callable[[Pair], object]) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await use(pair)  # type: ignore[misc] # each returns a coroutine
    assert scope.cancelled_caught


def test_rate_is_unbounded_unless_told() -> None:
    network = Network(Choices(0))
    network.listen("a")
    network.listen("b")
    assert network.link("a", "b").rate == math.inf

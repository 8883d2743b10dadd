"""What becomes of a connection that asks too fast, or takes too slowly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from attrs import define, evolve
from trio.testing import MockClock

from tercet_broker.runtime import Daemon, DaemonSettings, StreamWire, Wire, open_daemon
from tercet_broker.runtime.settings import RateSettings, TimeoutSettings
from tercet_protocol import CloseCode, Opcode

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve


def slow(**values: float) -> DaemonSettings:
    return DaemonSettings(rates=RateSettings(**{"requests": 10, "requests_burst": 20, **values}))


@pytest.mark.parametrize("lane", [True, False])
async def test_requests_over_the_rate_are_served_later_and_in_order(
    serve: Serve, autojump_clock: MockClock, tools: Any, lane: bool
) -> None:
    async with serve(slow(), lane=lane) as harness:
        client = await harness.client()
        began = trio.current_time()
        await client.raw(b"".join(tools.say(op="ping", id=n) for n in range(1, 35)))
        for n in range(1, 35):
            await client.expect("pong", id=n)
        assert trio.current_time() - began == pytest.approx(1.5)


@pytest.mark.parametrize("lane", [True, False])
async def test_what_has_waited_for_too_long_is_rate_limited(
    serve: Serve, autojump_clock: MockClock, tools: Any, lane: bool
) -> None:
    async with serve(slow(), lane=lane) as harness:
        client = await harness.client()
        await client.raw(b"".join(tools.say(op="ping", id=n) for n in range(1, 101)))
        answers = [await client.hear() for _ in range(100)]
        served = [answer["id"] for answer in answers if answer["op"] == "pong"]
        refused = [answer for answer in answers if answer["op"] == "error"]
        assert served == list(range(1, len(served) + 1))
        assert 35 <= len(served) <= 41
        assert [answer["id"] for answer in refused] == list(range(len(served) + 1, 101))
        assert {(answer["code"], answer["retry_after"]) for answer in refused} == {("rate_limited", 2.0)}
        await trio.sleep(5)
        await client.ask(op="ping", id=200)
        assert harness.daemon.meters.counters.refused == len(refused)


async def test_other_rates_hold_at_once_for_those_who_are_connected(
    serve: Serve, autojump_clock: MockClock, tools: Any
) -> None:
    async with serve(slow()) as harness:
        client = await harness.client()
        for rates, seconds in ((RateSettings(), 0.0), (RateSettings(requests=20, requests_burst=1), 5.0)):
            harness.daemon.reload(evolve(harness.daemon.settings, rates=rates))
            began = trio.current_time()
            for n in range(100):
                await client.ask(op="ping", id=n + 1)
            assert trio.current_time() - began == pytest.approx(seconds, abs=0.1), rates


async def test_who_goes_on_through_refusals_is_closed(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    async with serve(slow(abuse=10)) as harness:
        client = await harness.client()
        flood = b"".join(tools.say(op="ping") for _ in range(1000))
        began = trio.current_time()

        async def send() -> None:
            while True:
                try:
                    await client.raw(flood)
                except trio.BrokenResourceError:
                    return
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await client.closed() == CloseCode.POLICY_VIOLATION
            assert 10 <= trio.current_time() - began <= 20
            nursery.cancel_scope.cancel()
        assert harness.daemon.meters.counters.closed == 1


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
async def test_control_frames_over_the_rate_close(
    serve: Serve, autojump_clock: MockClock, tools: Any, opcode: Opcode
) -> None:
    async with serve(slow(frames=10, frames_burst=50)) as harness:
        client = await harness.client()
        await client.raw(tools.client_frame(opcode) * 51)
        assert await client.closed() == CloseCode.POLICY_VIOLATION


async def test_pongs_over_the_rate_close_one_by_one(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    async with serve(slow(frames=10, frames_burst=50)) as harness:
        client = await harness.client()
        for _ in range(51):
            await client.raw(tools.client_frame(Opcode.PONG))
            await trio.testing.wait_all_tasks_blocked()
        assert await client.closed() == CloseCode.POLICY_VIOLATION


@pytest.mark.parametrize("cut", range(7))
async def test_the_end_of_a_frame_is_not_taken_for_a_pong(
    serve: Serve, autojump_clock: MockClock, tools: Any, cut: int
) -> None:
    """Six bytes that look like one, in a chunk of their own."""
    async with serve() as harness:
        client = await harness.client()
        frame = tools.client_frame(Opcode.TEXT, b'{"op":"ping","id":2}' + b" " * 6)
        looks_so = frame[:-6] + b"\x8a\x80" + b"    "
        await client.raw(looks_so[: -6 - cut])
        await trio.testing.wait_all_tasks_blocked()
        await client.raw(looks_so[-6 - cut :])
        assert await client.closed() == CloseCode.INVALID_PAYLOAD, "0x8A is no UTF-8: it was a part of the text"


async def test_fragments_over_the_rate_close(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    async with serve(slow(frames=10, frames_burst=50)) as harness:
        client = await harness.client()
        await client.raw(tools.client_frame(Opcode.TEXT, b" ", fin=False))
        await client.raw(tools.client_frame(Opcode.CONTINUATION, b" " * 20, fin=False) * 51)
        assert await client.closed() == CloseCode.POLICY_VIOLATION


async def test_waiting_client_is_not_taken_for_dead(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    """It cannot be heard while it is not read from."""
    settings = slow(requests=0.02, requests_burst=2, wait=1000)
    async with serve(settings) as harness:
        client = await harness.client()
        await client.raw(b"".join(tools.say(op="ping", id=n) for n in range(1, 4)))
        for n in range(1, 4):
            await client.expect("pong", id=n)
        assert trio.current_time() >= 100


@define(eq=False)
class DrippingWire(StreamWire):
    """A peer that takes one byte every 19 seconds, once it has had its fill."""

    fill: int = 1000
    dripping_at: float = math.inf

    def try_send(self, data: bytes) -> int:
        if self.fill >= len(data):
            self.fill -= len(data)
            return super().try_send(data)
        self.fill = 0
        if trio.current_time() < self.dripping_at:
            self.dripping_at = min(self.dripping_at, trio.current_time() + 19)
            if trio.current_time() < self.dripping_at:
                return 0
        self.dripping_at = math.inf
        return 1

    async def wait_writable(self) -> None:
        await super().wait_writable()
        if self.dripping_at < math.inf:
            await trio.sleep_until(self.dripping_at)
            self.dripping_at = -math.inf


async def test_peer_that_takes_a_byte_now_and_then_is_closed(autojump_clock: MockClock, tools: Any, logs: Logs) -> None:
    """Progress alone is not enough: `write_bytes` in each `write` seconds."""

    class Listener(tools.MemoryListener):  # type: ignore[misc]
        async def accept(self) -> Wire:
            wire = await super().accept()
            return DrippingWire(wire.stream, "dripping")

    listener = Listener()
    settings = DaemonSettings(timeouts=TimeoutSettings(write=20, write_bytes=4096))
    async with open_daemon(Daemon(settings, listeners=[listener])):
        stream = await listener.dial()
        client = tools.Peer(stream)
        await client.shake_hands()
        await client.connect()
        began = trio.current_time()
        for n in range(2, 60):
            await client.say(op="ping", id=n)
        await client.ended()
        assert trio.current_time() - began <= 40
        await trio.aclose_forcefully(stream)
    (closed,) = [entry for entry in logs if entry["event"] == "connection closed"]
    assert closed["code"] == CloseCode.SLOW_CONSUMER


@pytest.mark.parametrize("lane", [True, False])
async def test_requests_are_counted_once_and_control_frames_are_none(
    serve: Serve, autojump_clock: MockClock, tools: Any, lane: bool
) -> None:
    """Pings and pongs have a rate of their own; a request in three parts is one."""
    async with serve(lane=lane) as harness:
        client = await harness.client()
        parts = [
            tools.client_frame(Opcode.TEXT, b'{"op":', fin=False),
            tools.client_frame(Opcode.CONTINUATION, b'"ping",', fin=False),
            tools.client_frame(Opcode.CONTINUATION, b'"id":2}'),
        ]
        await client.raw(b"".join([tools.client_frame(Opcode.PONG), *parts, tools.client_frame(Opcode.PONG)]))
        await client.expect("pong", id=2)
        await client.raw(tools.say(op="ping", id=3) + tools.say(op="ping", id=4))
        await client.expect("pong", id=3)
        await client.expect("pong", id=4)
        (found,) = harness.daemon.statistics().connections
        assert found.messages_in == 4

"""Staying connected: attempts, waits, close codes, tokens, drains, goodbyes."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Beside, ScriptedBroker


def jitter(attempts: int, seed: int = 7) -> list[float]:
    """The waits of E-023 for a client whose entropy has this seed and draws nothing else."""
    entropy = random.Random(seed)
    return [entropy.uniform(0, min(30, 0.5 * 2**attempt)) for attempt in range(attempts)]


async def test_connect_says_who_it_is(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session(token="t0", name="ticker/1") as (client, peer):
        assert client.connected
        assert peer.hello["client"] == "ticker/1"
        assert peer.hello["token"] == "t0"
        assert peer.hello["heartbeat"] is True
        await client.wait_connected()


async def test_first_failure_raises_with_its_cause(broker: ScriptedBroker) -> None:
    broker.refusals = 1
    with pytest.raises(
        tercet.CannotConnectError, match=r"cannot connect to ws://broker.test: nobody listens"
    ) as caught:
        async with broker.connect():
            pytest.fail("connected")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.code == 1006
    assert broker.dialled == [0.0]


async def test_wait_keeps_trying_with_full_jitter(broker: ScriptedBroker) -> None:
    """E-023."""
    broker.refusals = 9
    async with broker.session(wait=True) as (_, _):
        pass
    expected, now = [0.0], 0.0
    for wait in jitter(9):
        now += wait
        expected.append(now)
    assert broker.dialled == pytest.approx(expected)


async def test_row_of_failures_starts_over_after_a_minute(broker: ScriptedBroker, beside: Beside) -> None:
    """E-023: 59.9 s count as a failure, 60 s do not."""
    bounds: list[float] = []

    class Recorder(random.Random):
        def uniform(self, a: float, b: float) -> float:
            bounds.append(b)
            return super().uniform(a, b)

    async with broker.session(entropy=Recorder(1)) as (_, peer):
        for lasts in (1.0, 59.5, 60.0, 1.0):
            for _ in range(int(lasts)):
                await trio.sleep(1)
                await peer.send({"op": "pong"})
            await trio.sleep(lasts % 1)
            await peer.cut()
            peer = await broker.welcome()
    assert bounds == [0.5, 1.0, 0.5, 1.0]


async def test_connect_gives_up_after_its_timeout(broker: ScriptedBroker) -> None:
    """However far it came: dialling, the handshake, `connected`."""

    async def dial() -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    for number, options in enumerate([{"dial": dial}, {}, {}]):
        if number == 2:
            broker.nursery.start_soon(broker.accept)
        with pytest.raises(tercet.CannotConnectError) as caught:
            async with broker.connect(connect_timeout=3.0, **options):
                pytest.fail("connected")
        assert isinstance(caught.value.__cause__, trio.TooSlowError)
        assert trio.current_time() == 3.0 * (number + 1)
        if number == 1:
            await broker.stream()  # let the next test have its own


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 3008, 4000, 4321])
async def test_reconnects_after_these_codes(broker: ScriptedBroker, code: int) -> None:
    """E-021 as well: 4321 is in no table."""
    async with broker.session() as (client, peer):
        await peer.close(code)
        await broker.welcome()
        await client.wait_connected()
        assert client.statistics().connections == 2


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 3000, 3003, 4500])
async def test_stops_after_these_codes(broker: ScriptedBroker, beside: Beside, code: int) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1)
        await peer.expect("publish")
        await peer.close(code, "go away")
        with pytest.raises(tercet.BrokenClientError, match="go away") as caught:
            await call.outcome()
        assert (caught.value.code, caught.value.reason) == (code, "go away")
        for later in (client.ping, client.wait_connected):
            with pytest.raises(tercet.BrokenClientError):
                await later()
        with pytest.raises(tercet.BrokenClientError):
            async with client.subscribe("a/x"):
                pytest.fail("subscribed")
        assert not client.connected


@pytest.mark.parametrize(
    ("reason", "told"),
    [("unauthorized", "unauthorized: the token has expired"), ("go away", "go away"), ("un", "un")],
)
async def test_close_that_says_less_than_the_error_before_it(broker: ScriptedBroker, reason: str, told: str) -> None:
    """A-008: why the broker closed is in the error."""
    async with broker.session() as (client, peer):
        error = {"op": "error", "code": "unauthorized", "message": "the token has expired", "retry_after": None}
        await peer.send(error)
        await peer.close(3000, reason)
        await trio.sleep(1)
        with pytest.raises(tercet.BrokenClientError) as caught:
            await client.ping()
        assert caught.value.reason == told


async def test_close_without_a_reason_is_explained_by_the_last_error(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        await peer.send({"op": "error", "code": "bad_request", "message": "ten of them", "retry_after": None})
        await peer.close(1008)
        await trio.sleep(1)
        with pytest.raises(tercet.BrokenClientError, match="ten of them"):
            await client.ping()


PAGE = b"\n<html>\r\n<head><title>nginx has this to say</title></head></html>"


@pytest.mark.parametrize("status", [403, 502])
async def test_page_of_a_proxy_is_not_told(broker: ScriptedBroker, status: int) -> None:
    """nginx says 502 while the broker behind it is down, and 403 to whom it does not let in, in HTML."""

    async def refuse() -> None:
        request, _ = await broker.request()
        await request.reject(status, body=PAGE)

    broker.nursery.start_soon(refuse)
    with pytest.raises(tercet.CannotConnectError, match=f"answered with HTTP {status}$") as caught:
        async with broker.connect():
            pytest.fail("connected")
    assert (caught.value.code, caught.value.reason) == (status, f"the handshake was answered with HTTP {status}")


async def test_page_of_a_proxy_is_not_told_while_the_client_goes_on(
    broker: ScriptedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """E-022: 502 is no reason to stop, whatever stands in the page."""

    async def refuse() -> None:
        for _ in range(2):
            request, _ = await broker.request()
            await request.reject(502, body=PAGE)
        await broker.welcome()

    broker.nursery.start_soon(refuse)
    entropy = random.Random(7)
    entropy.randbytes = random.Random(0).randbytes  # type: ignore[method-assign] # masks come from elsewhere
    with caplog.at_level("DEBUG"):
        async with broker.connect(wait=True, entropy=entropy) as client:
            first, second = jitter(2)
            assert broker.dialled == pytest.approx([0.0, first, first + second])
            assert "nginx" not in repr(client) + repr(client.statistics())
    assert caplog.text.count("answered with HTTP 502; next try in") == 2
    assert "nginx" not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 426])
async def test_stops_after_these_statuses(broker: ScriptedBroker, status: int) -> None:
    """E-022, even with `wait`."""

    async def refuse() -> None:
        request, _ = await broker.request()
        await request.reject(status, body=b"known are: tercet.v1.json")

    broker.nursery.start_soon(refuse)
    with pytest.raises(tercet.CannotConnectError, match=f"HTTP {status}: known are") as caught:
        async with broker.connect(wait=True):
            pytest.fail("connected")
    assert caught.value.code == status


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ([(b"Retry-After", b"17")], 17.0),
        ([(b"Retry-After", b"99999999999999")], 300.0),
        ([(b"Retry-After", b"Wed, 21 Oct 2026 07:28:00 GMT")], jitter(1)[0]),
        ([], jitter(1)[0]),
    ],
)
async def test_busy_broker_says_when_to_come_back(
    broker: ScriptedBroker, headers: list[tuple[bytes, bytes]], delay: float
) -> None:
    """E-022."""

    async def refuse() -> None:
        request, _ = await broker.request()
        await request.reject(503, extra_headers=headers)
        await broker.welcome()

    broker.nursery.start_soon(refuse)
    entropy = random.Random(7)
    entropy.randbytes = random.Random(0).randbytes  # type: ignore[method-assign] # masks come from elsewhere
    async with broker.connect(wait=True, entropy=entropy):
        assert broker.dialled == [0.0, pytest.approx(delay)]


async def test_peer_that_speaks_something_else_is_left(broker: ScriptedBroker) -> None:
    async def accept() -> None:
        request, _ = await broker.request()
        await request.accept()

    broker.nursery.start_soon(accept)
    with pytest.raises(tercet.CannotConnectError, match=r"does not speak tercet\.v1\.json"):
        async with broker.connect(wait=True):
            pytest.fail("connected")


async def test_comes_back_when_the_drain_said(broker: ScriptedBroker) -> None:
    """D-001: counted from the close."""
    async with broker.session() as (_, peer):
        await trio.sleep(2)
        await peer.send({"op": "drain", "retry_after": 3.25})
        await trio.sleep(4)
        await peer.close(1012)
        await broker.welcome()
        assert broker.dialled == [0.0, 9.25]


@pytest.mark.parametrize(
    ("code", "stops"),
    [
        ("unauthorized", True),
        ("forbidden", True),
        ("bad_request", True),
        ("brand_new", True),
        ("unavailable", False),
        ("internal", False),
    ],
)
async def test_refused_connect(broker: ScriptedBroker, code: str, stops: bool) -> None:
    async def refuse() -> None:
        peer = await broker.accept()
        await peer.error(await peer.expect("connect"), code, 4.0)
        if not stops:
            await broker.welcome()

    broker.nursery.start_soon(refuse)
    if stops:
        with pytest.raises(tercet.CannotConnectError, match=f"{code}: no"):
            async with broker.connect(wait=True):
                pytest.fail("connected")
    else:
        async with broker.connect(wait=True):
            assert broker.dialled == [0.0, 4.0]


async def test_token_is_renewed_once(broker: ScriptedBroker, beside: Beside) -> None:
    """3000: a new token, once; then it stops."""
    given = iter(["t1", "t2", "t3"])

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return next(given)

    async with broker.session(token=token) as (client, peer):
        assert peer.hello["token"] == "t1"
        await peer.cut()
        peer = await broker.welcome()
        assert peer.hello["token"] == "t1"  # not asked again for a mere reconnection
        await peer.close(3000, "expired")
        peer = await broker.welcome()
        assert peer.hello["token"] == "t2"
        await peer.close(3000, "revoked")
        await trio.sleep(60)
        with pytest.raises(tercet.BrokenClientError, match="revoked"):
            await client.ping()


async def test_token_may_be_renewed_again_after_a_steady_minute(broker: ScriptedBroker) -> None:
    given = iter(["t1", "t2", "t3"])
    async with broker.session(token=lambda: next(given)) as (_, peer):
        for expected in ("t2", "t3"):
            for _ in range(6):
                await trio.sleep(10)
                await peer.send({"op": "pong"})
            await peer.close(3000)
            peer = await broker.welcome()
            assert peer.hello["token"] == expected


async def test_token_that_cannot_be_had(broker: ScriptedBroker) -> None:
    def token() -> str:
        raise KeyError("vault")

    with pytest.raises(tercet.CannotConnectError, match="vault") as caught:
        async with broker.connect(token=token):
            pytest.fail("connected")
    assert isinstance(caught.value.__cause__, KeyError)


async def test_dead_broker_is_noticed_at_exactly_heartbeat_and_ten(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        await trio.sleep(20)
        await peer.send({"op": "ping"})
        await peer.expect("pong")
        broker.refusals = 10**9
        await trio.sleep(34.9)
        assert client.statistics().connected
        await trio.sleep(0.2)
        assert not client.connected
        assert await peer.closed() == 1006  # no Close: nobody would read it


async def test_any_byte_counts_as_life(broker: ScriptedBroker) -> None:
    """A WebSocket ping, half a frame: the broker is there."""
    async with broker.session() as (client, peer):
        for _ in range(3):
            await trio.sleep(30)
            await peer.send_bytes(b"\x89\x00")
        await trio.sleep(30)
        await peer.send_bytes(b"\x81\x7e")
        await trio.sleep(34.9)
        assert client.connected


async def test_ping_of_the_broker_is_answered(broker: ScriptedBroker) -> None:
    """L-004: its id is repeated."""
    async with broker.session() as (_, peer):
        await peer.send({"op": "ping"}, {"op": "ping", "id": 77})
        assert await peer.receive() == {"op": "pong"}
        assert await peer.receive() == {"op": "pong", "id": 77}


async def test_leaving_closes_with_1000(broker: ScriptedBroker) -> None:
    async with broker.session() as (_, peer):
        pass
    assert await peer.closed() == 1000
    assert trio.current_time() == 0


class Deaf(trio.abc.Stream):
    """A stream that loses whatever is sent once it is told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.lost = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if not self.lost:
            await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_leaving_a_deaf_broker_takes_the_close_timeout(broker: ScriptedBroker, cancelled: bool) -> None:
    streams: list[Deaf] = []

    async def dial() -> trio.abc.Stream:
        streams.append(Deaf(await broker.dial()))
        return streams[0]

    with trio.CancelScope() as scope:
        async with broker.session(dial=dial, close_timeout=1.5):
            streams[0].lost = True
            if cancelled:
                scope.cancel()
    assert trio.current_time() == 1.5


async def test_cancelled_client_still_says_goodbye(broker: ScriptedBroker) -> None:
    with trio.CancelScope() as scope:
        async with broker.session() as (_, peer):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await peer.closed() == 1000


async def test_cancelled_while_it_connects(broker: ScriptedBroker) -> None:
    with trio.move_on_after(1) as scope:
        async with broker.connect():
            pytest.fail("connected")
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_cancelled_while_it_waits_to_try_again(broker: ScriptedBroker) -> None:
    broker.refusals = 10**9
    with trio.move_on_after(100) as scope:
        async with broker.connect(wait=True):
            pytest.fail("connected")
    assert scope.cancelled_caught
    assert trio.current_time() == 100


async def test_wait_connected_can_be_cancelled(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        broker.refusals = 1000
        await peer.cut()
        with trio.move_on_after(0.01) as scope:
            await client.wait_connected()
        assert scope.cancelled_caught


async def test_error_in_the_block_comes_out_as_it_is(broker: ScriptedBroker) -> None:
    """Not wrapped into an exception group."""
    with pytest.raises(ZeroDivisionError):
        async with broker.session():
            raise ZeroDivisionError


async def test_connection_cut_during_the_handshake(broker: ScriptedBroker) -> None:
    async def cut() -> None:
        await trio.aclose_forcefully(await broker.stream())

    broker.nursery.start_soon(cut)
    with pytest.raises(tercet.CannotConnectError, match="cut during the handshake"):
        async with broker.connect():
            pytest.fail("connected")
    assert trio.current_time() == 0


async def test_ping_measures_the_round_trip(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.ping)
        request = await peer.expect("ping")
        await trio.sleep(0.25)
        await peer.send({"op": "pong"}, {"op": "pong", "id": request["id"]})
        assert await call.outcome() == 0.25


async def test_ping_goes_on_over_the_next_connection(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.ping)
        await peer.expect("ping")
        await peer.cut()
        peer = await broker.welcome()
        request = await peer.expect("ping")
        await trio.sleep(0.125)
        await peer.send({"op": "pong", "id": request["id"]})
        assert await call.outcome() == pytest.approx(0.125)


async def test_cancelled_ping_leaves_nothing(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.ping)
        call.scope.cancel()
        await call.done.wait()
        await peer.expect("ping")
        await peer.cut()
        await (await broker.welcome()).expect_silence()


async def test_leaving_ends_what_others_wait_for(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, _):
        ping = await beside(client.ping)
    with pytest.raises(tercet.ClosedClientError):
        await ping.outcome()
    for later in (client.ping, client.wait_connected):
        with pytest.raises(tercet.ClosedClientError):
            await later()
    await wait_all_tasks_blocked()


async def test_options_are_checked(broker: ScriptedBroker) -> None:
    for options in ({"buffer": 0}, {"pending": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            async with broker.connect(**options):
                pytest.fail("connected")

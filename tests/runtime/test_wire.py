from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from tests.tls_records import HandWrittenTls, Sealer12, Sealer13
from trio.testing import MockClock

from tercet_broker.runtime import SocketWire, StreamWire, TlsSettings, make_tls_context

BIG = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A wire's socket and its peer's, with small buffers."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def encrypted(
    sockets: tuple[socket.socket, socket.socket], tls: TlsSettings, client_context: ssl.SSLContext
) -> AsyncIterator[tuple[SocketWire, trio.SSLStream[trio.SocketStream]]]:
    ours, theirs = sockets
    wire = SocketWire(ours, "test", context=make_tls_context(tls))
    # trio does not know that a socket pair is a stream that needs no options.
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    client = trio.SSLStream(stream, client_context, server_hostname="localhost", https_compatible=True)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            await wire.handshake()
        yield wire, client
    finally:
        await wire.aclose()
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def plain(
    sockets: tuple[socket.socket, socket.socket],
) -> AsyncIterator[tuple[SocketWire, trio.SocketStream]]:
    wire = SocketWire(sockets[0], "test")
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sockets[1]))
    try:
        await wire.handshake()
        yield wire, stream
    finally:
        await wire.aclose()
        await trio.aclose_forcefully(stream)


@pytest.fixture(params=["plain", "tls"])
def open_wire(request: pytest.FixtureRequest, sockets: Any, tls: TlsSettings, client_context: ssl.SSLContext) -> Any:
    return plain(sockets) if request.param == "plain" else encrypted(sockets, tls, client_context)


async def test_bytes_arrive_whole_whatever_the_socket_takes_at_once(open_wire: Any) -> None:
    """Of OpenSSL, too: the record it has begun with is the one it goes on with."""
    async with open_wire as (wire, peer), trio.open_nursery() as nursery:
        partial = 0

        async def write() -> None:
            nonlocal partial
            data = BIG
            while data:
                taken = wire.try_send(data)
                partial += taken < len(data)
                data = data[taken:]
                if data:
                    await wire.wait_writable()
            await wire.flush()
            assert wire.is_flushed

        nursery.start_soon(write)
        received = bytearray()
        while len(received) < len(BIG):
            received += await peer.receive_some(1000 + len(received) % 5000)
        assert received == BIG
        assert partial > 1


async def test_small_writes_between_large_ones_keep_their_order(open_wire: Any) -> None:
    async with open_wire as (wire, peer), trio.open_nursery() as nursery:
        parts = [b"a" * 40_000, b"b", b"c" * 16_384, b"d" * 16_385, b"e", b"f" * 100_000]

        async def write() -> None:
            for part in parts:
                await wire.send_all(part)

        nursery.start_soon(write)
        received = bytearray()
        while len(received) < sum(map(len, parts)):
            received += await peer.receive_some(777)
        assert received == b"".join(parts)


async def test_full_socket_takes_nothing(open_wire: Any) -> None:
    async with open_wire as (wire, _):
        while wire.try_send(b"x" * 10_000):
            pass
        assert wire.try_send(b"x") == 0
        with trio.move_on_after(0.01) as scope:
            await wire.wait_writable()
        assert scope.cancelled_caught


async def test_receive_returns_what_was_sent_and_then_the_end(open_wire: Any) -> None:
    async with open_wire as (wire, peer):
        await peer.send_all(b"hello")
        assert await wire.receive(3) == b"hel"
        assert await wire.receive(100) == b"lo"
        await wire.send_all(b"x")  # a peer that closes with something unread (session tickets) resets instead
        assert await peer.receive_some(1) == b"x"
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.aclose()
        assert await wire.receive(100) == b""


async def test_cancelled_receive_loses_nothing(open_wire: Any) -> None:
    """What has been read cannot be given back: so it is not read, or it is returned."""
    async with open_wire as (wire, peer):

        class Canceller(trio.abc.Instrument):
            """Cancels while the receiver stands at a checkpoint with bytes in its hands, if it ever does."""

            def __init__(self, scope: trio.CancelScope, after: int) -> None:
                self.scope, self.left = scope, after

            def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - its signature
                self.left -= 1
                if not self.left:
                    self.scope.cancel()

        for after, is_there in itertools.product(range(6), [True, False]):
            received = b""
            async with trio.open_nursery() as nursery:
                if is_there:
                    await peer.send_all(b"x")
                else:
                    nursery.start_soon(peer.send_all, b"x")
                with trio.CancelScope() as scope:
                    canceller = Canceller(scope, after)
                    trio.lowlevel.add_instrument(canceller)
                    try:
                        received = await wire.receive(10)
                    finally:
                        trio.lowlevel.remove_instrument(canceller)
            with trio.fail_after(10):
                assert (received or await wire.receive(10)) == b"x"


async def test_receive_is_a_checkpoint_even_if_bytes_are_there(open_wire: Any) -> None:
    async with open_wire as (wire, peer):
        await peer.send_all(b"xy")
        with trio.testing.assert_checkpoints():
            assert await wire.receive(1) == b"x"
        with trio.testing.assert_checkpoints():
            assert await wire.receive(1) == b"y"
        with trio.testing.assert_checkpoints():
            await wire.flush()


async def test_half_closed_wire_still_receives(open_wire: Any) -> None:
    async with open_wire as (wire, peer):
        await wire.send_all(b"last")
        await wire.send_eof()
        assert await peer.receive_some(100) == b"last"
        assert await peer.receive_some(100) == b""
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.send_all(b"still here")
            assert await wire.receive(100) == b"still here"


async def test_closed_wire_says_so_and_wakes_who_waits(open_wire: Any) -> None:
    async with open_wire as (wire, _):
        while wire.try_send(b"x" * 10_000):
            pass

        async def wait(method: Any) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await method()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, lambda: wire.receive(10))
            nursery.start_soon(wait, wire.wait_writable)
            await trio.testing.wait_all_tasks_blocked()
            await wire.aclose()
        await wire.aclose()
        with pytest.raises(trio.ClosedResourceError):
            wire.try_send(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await wire.receive(1)
        with pytest.raises(trio.ClosedResourceError):
            await wire.wait_writable()


async def test_closing_is_done_even_if_cancelled(open_wire: Any) -> None:
    async with open_wire as (wire, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await wire.aclose()
        assert wire.sock.fileno() == -1


@pytest.mark.parametrize("method", ["try_send", "receive"])
async def test_reset_is_a_broken_resource(method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
        ours.setblocking(False)
        wire = SocketWire(ours, "test")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await trio.lowlevel.wait_readable(ours)
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - one or the other
            if method == "receive":
                await wire.receive(10)
            else:
                wire.try_send(b"x")
                wire.try_send(b"x")
        await wire.aclose()


async def test_handshake_with_who_does_not_speak_tls_is_broken(
    sockets: tuple[socket.socket, socket.socket], tls: TlsSettings
) -> None:
    ours, theirs = sockets
    wire = SocketWire(ours, "x", context=make_tls_context(tls))
    theirs.send(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed"):
        await wire.handshake()
    await wire.aclose()


async def test_handshake_can_be_cancelled(sockets: tuple[socket.socket, socket.socket], tls: TlsSettings) -> None:
    ours, _ = sockets
    wire = SocketWire(ours, "x", context=make_tls_context(tls))
    with trio.move_on_after(0.01) as scope:
        await wire.handshake()
    assert scope.cancelled_caught
    await wire.aclose()


# What Python's own client cannot send


@asynccontextmanager
async def hand_written(
    sockets: tuple[socket.socket, socket.socket],
    tls: TlsSettings,
    authority: trustme.CA,
    log: Path,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> AsyncIterator[tuple[SocketWire, HandWrittenTls]]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.maximum_version = version
    context.keylog_filename = str(log / "secrets")
    wire = SocketWire(sockets[0], "test", context=make_tls_context(tls))
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sockets[1]))
    client = HandWrittenTls(stream, context)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.handshake)
            await wire.handshake()
        yield wire, client
    finally:
        await wire.aclose()
        await trio.aclose_forcefully(stream)


async def test_key_update_while_something_is_unsent_cuts_nothing(
    sockets: tuple[socket.socket, socket.socket], tls: TlsSettings, authority: trustme.CA, tmp_path: Path
) -> None:
    """OpenSSL on the socket itself failed with BAD_LENGTH: it had a record to finish, and an answer to write."""
    async with hand_written(sockets, tls, authority, tmp_path) as (wire, client), trio.open_nursery() as nursery:
        assert isinstance(client.sealer, Sealer13)
        for number in range(3):
            taken = 0
            while (more := wire.try_send(BIG[taken : taken + 100_000])) > 0:
                taken += more
            assert not wire.is_flushed
            for _ in range(2):  # it is the second that OpenSSL wants to have answered at once
                await client.stream.send_all(client.sealer.key_update(is_requested=True))
            await client.send(b"new keys %d" % number)
            assert await wire.receive(100) == b"new keys %d" % number
            nursery.start_soon(wire.send_all, BIG[taken:])
            received = bytearray()
            while len(received) < len(BIG):
                received += await client.receive()
            assert received == BIG


@pytest.mark.parametrize("is_requested", [True, False])
async def test_flood_of_key_updates_is_slowed_down(
    sockets: tuple[socket.socket, socket.socket],
    tls: TlsSettings,
    authority: trustme.CA,
    tmp_path: Path,
    autojump_clock: MockClock,
    is_requested: bool,
) -> None:
    """Whatever data there is in between: what carries none is read at a rate of its own, and nothing is lost."""
    async with hand_written(sockets, tls, authority, tmp_path) as (wire, client), trio.open_nursery() as nursery:
        sealer = client.sealer
        assert isinstance(sealer, Sealer13)

        async def flood() -> None:
            for _ in range(20):
                updates = b"".join(sealer.key_update(is_requested=is_requested) for _ in range(200))
                await client.stream.send_all(updates)
                await client.send(b"x")

        async def read() -> None:
            while await client.receive():
                pass

        nursery.start_soon(flood)
        nursery.start_soon(read)
        received = b""
        while len(received) < 20:
            received += await wire.receive(100)
        assert received == b"x" * 20
        assert 4.0 <= trio.current_time() <= 6.0  # 108,000 bytes of them
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_small_records_of_data_are_not_slowed_down(
    sockets: tuple[socket.socket, socket.socket],
    tls: TlsSettings,
    authority: trustme.CA,
    tmp_path: Path,
    autojump_clock: MockClock,
    version: ssl.TLSVersion,
) -> None:
    """A byte each: more of the record's own than of data."""
    async with hand_written(sockets, tls, authority, tmp_path, version) as (wire, client):
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for _ in range(5000):
                    await client.send(b"x")

            nursery.start_soon(drip)
            received = 0
            while received < 5000:
                received += len(await wire.receive(100))
        assert trio.current_time() == 0.0


async def test_renegotiation_is_refused(
    sockets: tuple[socket.socket, socket.socket], tls: TlsSettings, authority: trustme.CA, tmp_path: Path
) -> None:
    """TLS 1.3 has none any more."""
    version = ssl.TLSVersion.TLSv1_2
    async with hand_written(sockets, tls, authority, tmp_path, version) as (wire, client):
        assert isinstance(client.sealer, Sealer12)
        await client.stream.send_all(client.sealer.renegotiation())
        await client.send(b"and on")
        assert await wire.receive(100) == b"and on"
        with trio.move_on_after(0.01):
            await wire.receive(100)
        with pytest.raises(ssl.SSLError, match="NO_RENEGOTIATION"):
            await client.receive()


# Streams


async def test_stream_takes_a_piece_and_sends_it_when_somebody_waits() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    wire = StreamWire(ours)
    taken = wire.try_send(BIG)
    assert 0 < taken < len(BIG)
    assert not wire.is_flushed
    assert wire.try_send(BIG[taken:]) == 0
    await wire.flush()
    await wire.send_all(BIG[taken:])
    received = bytearray()
    while len(received) < len(BIG):
        received += await theirs.receive_some()
    assert received == BIG
    assert wire.try_send(b"") == 0


async def test_stream_whose_send_was_cut_off_is_broken() -> None:
    ours, _ = trio.testing.lockstep_stream_pair()
    wire = StreamWire(ours)
    assert wire.try_send(b"hello") == 5
    with trio.move_on_after(0.01):
        await wire.flush()
    with pytest.raises(trio.BrokenResourceError):
        wire.try_send(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await wire.flush()


async def test_closed_stream_says_so() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    wire = StreamWire(ours)
    await wire.aclose()
    await wire.aclose()
    assert await theirs.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        wire.try_send(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await wire.receive(1)

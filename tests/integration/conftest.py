"""A daemon on real loopback sockets, peers that write every byte themselves, and a pair that must lose nothing.

A test that needs the types says `if TYPE_CHECKING: from tests.integration.conftest import …`;
at run time pytest alone imports this file.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
import structlog
import trio
import trustme
from attrs import define, field, frozen
from structlog.testing import capture_logs

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import (
    Connection,
    Daemon,
    DaemonSettings,
    ListenerSettings,
    OpenEndpoint,
    RateSettings,
    TimeoutSettings,
    TlsSettings,
    open_daemon,
)

HOST = "127.0.0.1"
SCHEMES = ("ws", "wss")
PATIENCE = 30.0  # seconds: whoever waits for so long has hung, however loaded the machine is
PACE = 0.003  # seconds between two messages of a canary, so that it leaves the processor to others

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80
KEY = base64.b64encode(bytes(range(16))).decode()
MASK = b"\x12\x34\x56\x78"

# Long enough for a loaded machine, short enough for a test.
TIMEOUTS = TimeoutSettings(handshake=5, connect=5, heartbeat=20, pong=5, write=5, close=0.5, drain=0.5)
KEPT = NamespaceSettings(history=HistorySettings(messages=100_000))


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """Return a frame as a client sends it, masked (RFC 6455, 5.2)."""
    head = bytes([(FIN if fin else 0) | reserved | opcode])
    if len(payload) < 126:
        head += bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        head += struct.pack("!BH", 0x80 | 126, len(payload))
    else:
        head += struct.pack("!BQ", 0x80 | 127, len(payload))
    mask = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + MASK + masked.to_bytes(len(payload), "big")


def request_frame(op: str, **fields: object) -> bytes:
    """Return the frame of a request."""
    return client_frame(TEXT, json.dumps({"op": op, **fields}).encode())


def upgrade_request(path: str = "/", **headers: str | bytes | None) -> bytes:
    """Return a handshake; `headers` replace or add some (`_` for `-`), None leaves one out."""
    fields: dict[str, str | bytes | None] = {
        "host": "tercet.test",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"GET {path} HTTP/1.1".encode()]
    for name, value in fields.items():
        if value is not None:
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")))
    return b"\r\n".join([*lines, b"", b""])


@frozen
class Wire:
    """The bytes of this protocol, for those tests that write them themselves."""

    client_frame: Callable[..., bytes]
    request_frame: Callable[..., bytes]
    upgrade_request: Callable[..., bytes]


@define(eq=False)
class Peer:
    """The client's end of one connection, which does nothing by itself but answer pings.

    Attributes:
        stream: the socket, or TLS on it.
        sock: the socket.
        is_silent: whether it leaves even pings unanswered.
    """

    stream: trio.abc.Stream
    sock: trio.socket.SocketType
    is_silent: bool = False
    _buffer: bytearray = field(factory=bytearray, repr=False)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def request(self, op: str, **fields: object) -> None:
        await self.send(request_frame(op, **fields))

    async def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """Send a request and return its reply; whatever comes before that is skipped."""
        await self.request(op, **fields)
        while True:
            message = await self.message()
            if message.get("id") == fields["id"]:
                return message

    async def upgrade(self) -> None:
        """Become a WebSocket."""
        await self.send(upgrade_request())
        head = await self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def connect(self) -> None:
        """Become a WebSocket and introduce oneself."""
        await self.upgrade()
        assert (await self.ask("connect", id=1))["op"] == "connected"

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some(1 << 16)
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)

    async def head(self) -> bytes:
        """Return the head of an HTTP response; b"" if the broker closed without one."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                return b""
        end = self._buffer.index(b"\r\n\r\n") + 4
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        return head

    async def status(self) -> int | None:
        """Return the status of an HTTP response; None if the broker closed without one."""
        head = await self.head()
        return int(head.split(b" ", 2)[1]) if head else None

    async def frame(self) -> tuple[int, bytes] | None:
        """Return the opcode and payload of the next frame; None at the end. Half a frame there is a failure."""
        buffer = self._buffer
        while True:
            if len(buffer) >= 2:
                assert buffer[0] & 0x70 == 0
                assert buffer[0] & FIN
                assert not buffer[1] & 0x80
                size, start = buffer[1], 2
                if size >= 126:
                    start = 4 if size == 126 else 10
                    size = int.from_bytes(buffer[2:start], "big")
                if len(buffer) >= start + size >= start:
                    opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + size])
                    assert opcode in {TEXT, BINARY, CLOSE, PING, PONG}
                    del buffer[: start + size]
                    return opcode, payload
            if not await self._more():
                assert not buffer, f"the broker stopped within a frame: {bytes(buffer[:100])!r}"
                return None

    async def message(self) -> dict[str, Any]:
        """Return the next message, answering pings before it."""
        while True:
            frame = await self.frame()
            assert frame is not None, "the broker closed the connection"
            opcode, payload = frame
            if opcode == TEXT:
                return cast("dict[str, Any]", json.loads(payload))
            assert opcode != CLOSE, payload
            if opcode == PING and not self.is_silent:
                await self.send(client_frame(PONG, payload))

    async def close_code(self) -> int | None:
        """Skip what comes before the broker's Close, and return its code; None if the end came without one."""
        while (frame := await self.frame()) is not None:
            opcode, payload = frame
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")
        return None

    async def end(self) -> None:
        """Wait until the broker has ended the connection."""
        while await self._more():
            self._buffer.clear()

    async def leave(self) -> None:
        """Close properly."""
        await self.send(client_frame(CLOSE, (1000).to_bytes(2, "big")))
        assert await self.close_code() == 1000

    def reset(self) -> None:
        """Be gone without a word: the broker gets a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@frozen
class Certificates:
    """A server's certificate, and what trusts it.

    Attributes:
        settings: the server's files.
        ca: the file of the authority.
        context: a client's, which trusts it.
    """

    settings: TlsSettings
    ca: Path
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    return Certificates(TlsSettings(folder / "cert.pem", folder / "key.pem"), folder / "ca.pem", context)


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the count alone


def count_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def wait_for(condition: Callable[[], bool], what: Callable[[], str], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds that has no event to wait for; fail with `what()` if it never does."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110 - nothing announces that a descriptor is closed
            await trio.sleep(0.005)
        return
    pytest.fail(f"not within {seconds} s: {what()}")


@define(eq=False)
class Running:
    """A daemon that runs in this test's event loop, plain and encrypted.

    Attributes:
        daemon: itself.
        ports: {scheme: port}.
        context: the client's trust.
        peers: those that were dialled.
    """

    daemon: Daemon
    ports: Mapping[str, int]
    context: ssl.SSLContext
    peers: list[Peer] = field(factory=list, repr=False)

    async def dial(self, scheme: str) -> Peer:
        """Open a connection that has sent nothing of the protocol yet."""
        tcp = await self.dial_tcp(scheme)
        if scheme == "ws":
            return tcp
        stream = trio.SSLStream(tcp.stream, self.context, server_hostname=HOST, https_compatible=True)
        await stream.do_handshake()
        tcp.stream = stream
        return tcp

    async def dial_tcp(self, scheme: str) -> Peer:
        """Open a connection, without TLS in any case."""
        stream = await trio.open_tcp_stream(HOST, self.ports[scheme])
        peer = Peer(stream, stream.socket)
        self.peers.append(peer)
        return peer

    async def open(self, scheme: str) -> Peer:
        """Open a connection that has introduced itself."""
        peer = await self.dial(scheme)
        await peer.connect()
        return peer

    async def hang_up(self, after: int = 0) -> None:
        """Close our end of all connections but the first so many."""
        for peer in self.peers[after:]:
            await trio.aclose_forcefully(peer.stream)
        del self.peers[after:]


@frozen
class Baseline:
    """How many tasks and descriptors there were."""

    tasks: int = field(factory=count_tasks)
    descriptors: int = field(factory=count_descriptors)

    async def regained(self, *, descriptors: int = 0, seconds: float = PATIENCE) -> None:
        """Wait until no more are there, besides so many `descriptors` that the test itself still holds."""
        await wait_for(
            lambda: count_tasks() <= self.tasks and count_descriptors() <= self.descriptors + descriptors,
            lambda: f"{count_tasks()} tasks, {count_descriptors()} descriptors; before: {self}",
            seconds,
        )


@define(eq=False)
class Canary:
    """A publisher and a subscriber that go on while others misbehave.

    Each message is published once its predecessor has arrived, so that none
    can hide behind another.

    Attributes:
        delivered: how many messages have arrived.
        slowest: seconds that the slowest message took to arrive.
    """

    publisher: Peer
    subscriber: Peer
    delivered: int = 0
    slowest: float = 0.0
    is_ending: bool = False

    async def run(self) -> None:
        while not self.is_ending:
            await self.chirp()
            await trio.sleep(PACE)

    async def chirp(self) -> None:
        number = self.delivered + 1
        began = trio.current_time()
        await self.publisher.request("publish", id=number, topic="canary/song", data=number)
        while (message := await self.subscriber.message())["op"] == "position":
            assert message["seq"] < number
        assert (message["op"], message["data"], message["seq"]) == ("message", number, number), message
        reply = await self.publisher.message()
        assert (reply["op"], reply["id"], reply["seq"]) == ("published", number, number), reply
        self.delivered = number
        self.slowest = max(self.slowest, trio.current_time() - began)


class Serve(Protocol):
    """Runs a daemon beside a block, with further `options` of `DaemonSettings`; see `serve`."""

    def __call__(
        self,
        settings: BrokerSettings = ...,
        timeouts: TimeoutSettings = ...,
        *,
        rates: RateSettings = ...,
        lane: bool = True,
        open_endpoint: Callable[[Connection], OpenEndpoint] | None = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[Running]: ...


BROKER = BrokerSettings(namespaces={"kept": KEPT}, limits=LimitSettings())
RATES = RateSettings()


@pytest.fixture
def serve(certificates: Certificates) -> Serve:
    """A function that runs a daemon on two loopback listeners, plain and TLS."""

    @asynccontextmanager
    async def run(
        settings: BrokerSettings = BROKER,
        timeouts: TimeoutSettings = TIMEOUTS,
        *,
        rates: RateSettings = RATES,
        lane: bool = True,
        open_endpoint: Callable[[Connection], OpenEndpoint] | None = None,
        **options: Any,
    ) -> AsyncIterator[Running]:
        bind = f"{HOST}:0"
        listeners = (ListenerSettings(bind), ListenerSettings(bind, tls=certificates.settings))
        daemon = Daemon(
            DaemonSettings(listeners, settings, timeouts, rates=rates, **options),
            lane=lane,
            open_endpoint=open_endpoint,
        )
        async with open_daemon(daemon) as urls:
            ports = {url.partition(":")[0]: int(url.rpartition(":")[2]) for url in urls}
            running = Running(daemon, ports, certificates.context)
            try:
                yield running
            finally:
                await running.hang_up()

    return run


Watched = Callable[[Running], AbstractAsyncContextManager[Canary]]


@pytest.fixture
def watched() -> Watched:
    """A function that has a canary sing during a block, and fails if it lost a note."""

    @asynccontextmanager
    async def watch(running: Running) -> AsyncIterator[Canary]:
        publisher, subscriber = await running.open("ws"), await running.open("wss")
        assert (await subscriber.ask("subscribe", id=2, filter="canary/#"))["op"] == "subscribed"
        canary = Canary(publisher, subscriber)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(canary.run)
            yield canary
            canary.is_ending = True
        before = canary.delivered
        assert before > 0
        with trio.fail_after(PATIENCE):
            for _ in range(10):
                await canary.chirp()
            await publisher.leave()
            await subscriber.leave()

    return watch


@pytest.fixture
def wire() -> Wire:
    """How to write the bytes of the protocol."""
    return Wire(client_frame, request_frame, upgrade_request)


@pytest.fixture
def patience() -> Callable[[], trio.CancelScope]:
    """A deadline that only a test which hangs ever meets."""
    return cast("Callable[[], trio.CancelScope]", partial(trio.fail_after, PATIENCE))


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """The daemon's log: no test here may leave an error in it, for that is a fault of ours."""
    structlog.reset_defaults()
    with capture_logs() as entries:
        yield entries
    assert [entry for entry in entries if entry["log_level"] in {"error", "critical"}] == []


@pytest.fixture
def baseline() -> Callable[[], Baseline]:
    """A function that notes how many tasks and descriptors there are now."""
    return Baseline


@pytest.fixture
def dial() -> Callable[[int], Awaitable[Peer]]:
    """A function that connects to a port, without TLS."""

    async def connect(port: int) -> Peer:
        stream = await trio.open_tcp_stream(HOST, port)
        return Peer(stream, stream.socket)

    return connect

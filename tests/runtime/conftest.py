"""Daemons in memory and on sockets, and a raw client that speaks frames through wsproto's public API.

A test that needs its types says `if TYPE_CHECKING: from tests.runtime.conftest import …`;
at run time pytest alone imports this file.
"""

from __future__ import annotations

import json
import random
import ssl
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
import trio
import trio.testing
import trustme
from attrs import define, evolve, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Ping, Pong, Request, TextMessage

from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery
from tercet_broker.runtime import (
    Connection,
    Daemon,
    DaemonSettings,
    Listener,
    ListenerSettings,
    OpenEndpoint,
    StreamWire,
    TlsSettings,
    Wire,
)
from tercet_protocol import SUBPROTOCOL, CloseCode, Opcode, encode_frame

PATIENCE = 60.0  # seconds, real or virtual: whoever waits for so long has hung
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3

Logs = list[MutableMapping[str, Any]]


def head(
    target: str = "/",
    *lines: str,
    method: str = "GET",
    key: str | None = KEY,
    version: str | None = "13",
    subprotocol: str | None = SUBPROTOCOL,
) -> bytes:
    """Return a request head that is right, but for what is said."""
    all_lines = [f"{method} {target} HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade"]
    if key is not None:
        all_lines.append(f"Sec-WebSocket-Key: {key}")
    if version is not None:
        all_lines.append(f"Sec-WebSocket-Version: {version}")
    if subprotocol is not None:
        all_lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*all_lines, *lines, "", ""]).encode("latin-1")


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return a frame as a client would send it, or as it should not."""
    mask = bytes((1, 2, 3, 4)) if masked else b""
    size, flag = len(payload), 0x80 if masked else 0
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if size <= 125:
        start = bytes((first, flag | size))
    elif size <= 0xFFFF:
        start = bytes((first, flag | 126)) + size.to_bytes(2, "big")
    else:
        start = bytes((first, flag | 127)) + size.to_bytes(8, "big")
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)) if masked else payload
    return start + mask + body


def say(**fields: object) -> bytes:
    """Return a request as a text frame."""
    return client_frame(Opcode.TEXT, json.dumps(fields).encode())


@define(eq=False)
class Peer:
    """A client's end of a connection, played by hand.

    Attributes:
        received: every byte that came.
    """

    stream: trio.abc.Stream
    websocket: WSConnection = field(factory=lambda: WSConnection(ConnectionType.CLIENT))
    received: bytearray = field(factory=bytearray)
    _events: deque[Event | None] = field(factory=deque)
    _text: str = ""

    async def shake_hands(
        self, target: str = "/", *, subprotocols: tuple[str, ...] = (SUBPROTOCOL,), trailing: bytes = b""
    ) -> AcceptConnection:
        request = self.websocket.send(Request(host="test", target=target, subprotocols=list(subprotocols)))
        await self.stream.send_all(request + trailing)
        event = await self.event()
        assert isinstance(event, AcceptConnection), event
        assert self.received.startswith(b"HTTP/1.1 101 ")  # wsproto passes over what comes before
        return event

    async def connect(self, **fields: object) -> dict[str, Any]:
        await self.say(op="connect", id=1, **fields)
        return await self.expect("connected", id=1)

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.websocket.send(event) for event in events))

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def say(self, **fields: object) -> None:
        await self.raw(say(**fields))

    async def ask(self, **fields: object) -> dict[str, Any]:
        """Send a request and return the next message."""
        await self.say(**fields)
        return await self.hear()

    async def end_writing(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        await self.stream.send_eof()

    async def event(self) -> Event | None:
        """Return the next event; None is the end of the stream. Pings are not answered."""
        with trio.fail_after(PATIENCE):
            while not self._events:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    data = b""
                self.received += data
                if not data:
                    return None
                self.websocket.receive_data(bytes(data))
                self._events.extend(self.websocket.events())
            return self._events.popleft()

    async def frame(self) -> Event | None:
        """Return the next event, a message only when it is whole."""
        while True:
            event = await self.event()
            if not isinstance(event, TextMessage):
                return event
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                return TextMessage(data=text)

    async def hear(self) -> dict[str, Any]:
        """Return the next text message; WebSocket pings and pongs are passed over."""
        while True:
            event = await self.frame()
            if isinstance(event, Ping | Pong):
                continue
            assert isinstance(event, TextMessage), event
            message = json.loads(event.data)
            assert isinstance(message, dict)
            return message

    async def expect(self, op: str, **fields: object) -> dict[str, Any]:
        message = await self.hear()
        assert {"op": op, **fields}.items() <= message.items(), message
        return message

    async def closed(self) -> int:
        """Read up to the Close, answer it, read to the end of the stream, close, and return the code."""
        while not isinstance(event := await self.frame(), CloseConnection):
            assert event is not None, "the stream ended without a Close"
            assert isinstance(event, Message | Ping | Pong), event
        with suppress(trio.BrokenResourceError):
            await self.raw(client_frame(Opcode.CLOSE, int(event.code).to_bytes(2, "big")))
        await self.ended()
        await trio.aclose_forcefully(self.stream)
        return int(event.code)

    async def ended(self) -> None:
        """Read to the end of the stream, whatever comes."""
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return
                self.received += data
                if not data:
                    return


@define(eq=False)
class RecordedStream(trio.abc.HalfCloseableStream):
    """The broker's end of a connection in memory, which remembers whether it was closed."""

    inner: trio.abc.HalfCloseableStream
    closed: trio.Event = field(factory=trio.Event)
    on_send: Callable[[bytes | bytearray | memoryview], None] = field(default=lambda _: None)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.on_send(data)
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        self.closed.set()
        await self.inner.aclose()


@define(eq=False)
class MemoryListener:
    """A listener whose connections are made by `dial`.

    Attributes:
        accepted: the broker's ends of all connections that it was given.
        make_pair: in lockstep, what the broker writes waits until it is read.
    """

    url: str = "ws://memory"
    path: str = "/"
    make_pair: Callable[[], tuple[Any, Any]] = trio.testing.memory_stream_pair
    accepted: list[RecordedStream] = field(factory=list)
    _channel: Any = field(factory=lambda: trio.open_memory_channel[RecordedStream](100))

    async def dial(self) -> trio.abc.Stream:
        ours, theirs = self.make_pair()
        stream = RecordedStream(theirs)
        self._channel[0].send_nowait(stream)
        await trio.lowlevel.checkpoint()
        assert isinstance(ours, trio.abc.Stream)
        return ours

    async def accept(self) -> Wire:
        stream = await self._channel[1].receive()
        self.accepted.append(stream)
        return StreamWire(stream, "memory")

    async def aclose(self) -> None:
        await self._channel[1].aclose()


def _no_overflow(_: Delivery) -> bool:
    raise AssertionError("an echo only sends notices")


@define(eq=False)
class Echo:
    """An endpoint that sends every message back, as often as it is told.

    Attributes:
        what: is called with every message, and may raise.
    """

    connection: Connection
    what: Callable[[Echo, bytes], None] | None = None
    on_ping: Callable[[], bool] = field(default=lambda: False)
    on_leave: Callable[[], object] = field(default=lambda: None)
    times: int = 1
    label: str = "echo"
    is_open: bool = True
    user: str | None = None
    outbox: Outbox = field(init=False)
    received: list[bytes] = field(factory=list)
    faults: list[Exception] = field(factory=list)
    ended_with: int | None = None

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(0, 1000, 2**20, 64, wake=self.connection.wake, overflow=_no_overflow)

    def look_at_clock(self) -> float:
        return trio.current_time()

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        self.received.append(payload)
        if self.what is not None:
            self.what(self, payload)
        for _ in range(self.times):
            self.outbox.notify(encode_frame(Opcode.TEXT if is_text else Opcode.BINARY, payload))

    def refuse(self, payload: bytes, retry_after: float) -> None:
        raise AssertionError(f"asked too fast: {payload!r}, {retry_after}")

    def advance(self) -> None:
        """Nothing: an echo is never behind."""

    def fault(self, error: Exception) -> None:
        self.faults.append(error)

    def ping(self) -> bool:
        return self.on_ping()

    def end(self, code: CloseCode, reason: str) -> None:
        self.ended_with = code
        self.connection.close(code, reason)

    def leave(self) -> None:
        self.on_leave()

    def close(self) -> None:
        self.outbox.close()


@define(eq=False)
class Harness:
    """A running daemon, and the way to it."""

    daemon: Daemon
    dial: Callable[[], Awaitable[trio.abc.Stream]]
    listener: MemoryListener | None = None
    urls: tuple[str, ...] = ()
    done: trio.Event = field(factory=trio.Event)  # `run` has returned
    dialled: list[trio.abc.Stream] = field(factory=list)

    async def raw(self) -> Peer:
        """Return a connection on which nothing has been sent; it is closed at the end."""
        stream = await self.dial()
        self.dialled.append(stream)
        return Peer(stream)

    async def peer(self, target: str = "/") -> Peer:
        """Return a WebSocket on which no message has been sent."""
        peer = await self.raw()
        await peer.shake_hands(target)
        return peer

    async def client(self, **fields: object) -> Peer:
        """Return a connection that has sent its `connect`."""
        peer = await self.peer()
        await peer.connect(**fields)
        return peer

    def assert_balanced(self) -> None:
        assert all(account.balanced for account in self.daemon.statistics().accounts)


class Serve(Protocol):
    """Runs a daemon for the length of a block."""

    def __call__(
        self,
        settings: DaemonSettings = ...,
        *,
        transport: str = ...,
        lane: bool = ...,
        open_endpoint: Callable[[Connection], OpenEndpoint] | None = ...,
        lockstep: bool = ...,
        **options: Any,
    ) -> AbstractAsyncContextManager[Harness]: ...


@asynccontextmanager
async def serve_in_memory(
    settings: DaemonSettings = DaemonSettings(),  # noqa: B008 - frozen
    *,
    lane: bool = True,
    open_endpoint: Callable[[Connection], OpenEndpoint] | None = None,
    lockstep: bool = False,
    **options: Any,
) -> AsyncIterator[Harness]:
    """Run a daemon whose connections are memory streams."""
    pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
    listener = MemoryListener(make_pair=pair)
    listeners: list[Listener] = [listener]
    daemon = Daemon(
        settings, entropy=random.Random(0), listeners=listeners, lane=lane, open_endpoint=open_endpoint, **options
    )
    async with _running(Harness(daemon, listener.dial, listener)) as harness:
        yield harness


@asynccontextmanager
async def _running(harness: Harness) -> AsyncIterator[Harness]:
    try:
        async with trio.open_nursery() as nursery:

            async def run(*, task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
                await harness.daemon.run(task_status=task_status)
                harness.done.set()

            harness.urls = await nursery.start(run)
            yield harness
            nursery.cancel_scope.cancel()
    finally:
        # Outside the nursery: a Cancelled in here would take the place of a failure.
        for stream in harness.dialled:
            await trio.aclose_forcefully(stream)


@pytest.fixture(autouse=True)
def logs(canary: str) -> Iterator[Logs]:
    """What was logged; nothing is printed. No token may be in it."""
    with structlog.testing.capture_logs() as entries:
        yield entries
    assert not [entry for entry in entries if canary in render_entry(entry)], "a token was logged"


def render_entry(entry: MutableMapping[str, Any]) -> str:
    """Return all that a log line would say, the traceback included."""
    error = entry.get("exc_info")
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    return f"{entry!r}{trace}"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    """A server's certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return TlsSettings(folder / "server.pem", folder / "server.pem")


@pytest.fixture(scope="session")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def serve(tls: TlsSettings, client_context: ssl.SSLContext, tmp_path: Path) -> Serve:
    """Run a daemon over "memory", or over sockets: "ws", "wss" or "unix"."""

    @asynccontextmanager
    async def serve(
        settings: DaemonSettings = DaemonSettings(),  # noqa: B008 - frozen
        *,
        transport: str = "memory",
        lane: bool = True,
        open_endpoint: Callable[[Connection], OpenEndpoint] | None = None,
        lockstep: bool = False,
        **options: Any,
    ) -> AsyncIterator[Harness]:
        if transport == "memory":
            async with serve_in_memory(
                settings, lane=lane, open_endpoint=open_endpoint, lockstep=lockstep, **options
            ) as harness:
                yield harness
            return
        path = str(tmp_path / "tercet.sock")
        listener = ListenerSettings(
            f"unix:{path}" if transport == "unix" else "127.0.0.1:0", tls=tls if transport == "wss" else None
        )
        daemon = Daemon(
            evolve(settings, listeners=(listener,)),
            entropy=random.Random(0),
            lane=lane,
            open_endpoint=open_endpoint,
            **options,
        )

        async def dial() -> trio.abc.Stream:
            if transport == "unix":
                return await trio.open_unix_socket(path)
            port = int(harness.urls[0].rpartition(":")[2])
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if transport == "ws":
                return stream
            return trio.SSLStream(stream, client_context, server_hostname="localhost", https_compatible=True)

        harness = Harness(daemon, dial)
        async with _running(harness):
            yield harness

    return serve


@pytest.fixture
def tools() -> Any:
    """This module: tests cannot import it, for their folder is no package."""
    import sys  # noqa: PLC0415

    return sys.modules[__name__]

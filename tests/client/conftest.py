"""A scripted broker, in memory: each test plays its part by hand.

A test that needs its types says `if TYPE_CHECKING: from tests.client.conftest import …`;
at run time pytest alone imports this file.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

import tercet

LIMITS = {
    "message_bytes": 262144,
    "subscriptions": 1000,
    "topic_bytes": 255,
    "topic_levels": 16,
    "last": 10000,
    "key_seconds": 300.0,
}
PATIENCE = 100_000.0  # virtual seconds: a test that waits for so long has hung


@define(eq=False)
class Peer:
    """The broker's end of one connection."""

    websocket: WebSocketConnection
    stream: trio.abc.Stream
    hello: dict[str, Any] = field(factory=dict)
    limits: dict[str, Any] = field(factory=LIMITS.copy)

    async def receive(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE):
            text = await self.websocket.get_message()
        message = json.loads(text)
        assert isinstance(message, dict)
        return message

    async def expect(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the next request, which must be this one."""
        message = await self.receive()
        assert {"op": op, **fields}.items() <= message.items(), message
        return message

    async def expect_silence(self, seconds: float = 1.0) -> None:
        with trio.move_on_after(seconds):
            pytest.fail(f"unexpected: {await self.websocket.get_message()!r}")

    async def closed(self) -> int:
        """Wait until the client has closed, and return its code."""
        try:
            with trio.fail_after(PATIENCE):
                while True:
                    await self.websocket.get_message()
        except ConnectionClosed as closed:
            assert closed.reason is not None
            return closed.reason.code

    async def send(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            await self.websocket.send_message(json.dumps(message))
        await trio.testing.wait_all_tasks_blocked()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, past the WebSocket engine."""
        await self.stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()

    async def welcome(self, heartbeat: float = 25.0, expires_in: float | None = None, **limits: float) -> None:
        self.hello = await self.expect("connect")
        await self.send(
            {
                "op": "connected",
                "id": self.hello["id"],
                "connection": "c1",
                "server": "scripted/1",
                "heartbeat": heartbeat,
                "limits": LIMITS | limits,
                **({} if expires_in is None else {"expires_in": expires_in}),
            }
        )

    async def subscribed(self, filter: str, *, live: bool = True, seq: int = 0, epoch: str = "e1", **more: Any) -> int:  # noqa: A002
        """Expect a subscribe, accept it within a namespace, and return its id."""
        request = await self.expect("subscribe", filter=filter)
        await self.send({"op": "subscribed", "id": request["id"], "live": live, "epoch": epoch, "seq": seq, **more})
        id_ = request["id"]
        assert isinstance(id_, int)
        return id_

    async def message(self, seq: int, topic: str = "a/x", **more: Any) -> None:
        data = more.pop("data", seq)
        await self.send({"op": "message", "topic": topic, "seq": seq, "time": 1000 + seq, "data": data, **more})

    async def error(self, request: dict[str, Any], code: str, retry_after: float | None = None) -> None:
        await self.send({"op": "error", "id": request["id"], "code": code, "message": "no", "retry_after": retry_after})

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        await self.websocket.aclose(code, reason)

    async def cut(self) -> None:
        """End the connection without a word."""
        await trio.aclose_forcefully(self.stream)
        await trio.testing.wait_all_tasks_blocked()


@define(eq=False)
class ScriptedBroker:
    """Where the client's `dial` leads to."""

    nursery: trio.Nursery
    dialled: list[float] = field(factory=list)  # when, on trio's clock
    refusals: int = 0  # so many of the next attempts fail before there is a stream
    _calls: trio.MemorySendChannel[trio.abc.Stream] = field(init=False)
    _incoming: trio.MemoryReceiveChannel[trio.abc.Stream] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._calls, self._incoming = trio.open_memory_channel(64)

    async def dial(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append(trio.current_time())
        if self.refusals:
            self.refusals -= 1
            raise OSError("nobody listens")
        ours, theirs = trio.testing.memory_stream_pair()
        await self._calls.send(ours)
        return theirs

    async def stream(self) -> trio.abc.Stream:
        """Wait for the client to dial; return the broker's end."""
        with trio.fail_after(PATIENCE):
            return await self._incoming.receive()

    async def request(self) -> tuple[WebSocketRequest, trio.abc.Stream]:
        stream = await self.stream()
        return await wrap_server_stream(self.nursery, stream, message_queue_size=100_000), stream

    async def accept(self) -> Peer:
        """Wait for the client to dial, and do the WebSocket handshake."""
        request, stream = await self.request()
        return Peer(await request.accept(subprotocol="tercet.v1.json"), stream)

    async def welcome(self, **options: Any) -> Peer:
        """Wait for the client to dial, and accept its `connect`."""
        peer = await self.accept()
        await peer.welcome(**options)
        return peer

    def connect(self, **options: Any) -> AbstractAsyncContextManager[tercet.Client]:
        defaults: dict[str, Any] = {"dial": self.dial, "entropy": random.Random(7)}
        return tercet.connect("ws://broker.test", **(defaults | options))

    @asynccontextmanager
    async def session(
        self, *, expires_in: float | None = None, **options: Any
    ) -> AsyncIterator[tuple[tercet.Client, Peer]]:
        """Connect a client; give it and the broker's end."""

        welcomed: list[Peer] = []
        done = trio.Event()

        async def welcome() -> None:
            welcomed.append(await self.welcome(expires_in=expires_in))
            done.set()

        self.nursery.start_soon(welcome)
        async with self.connect(**options) as client:
            await done.wait()
            yield client, welcomed[0]


def run_virtually(function: Any, clock: Any = None, instruments: Any = ()) -> Any:
    """Run a test on a clock that starts at 0 and jumps."""
    clock = clock or trio.testing.MockClock(autojump_threshold=0)
    return trio.run(function, clock=clock, instruments=instruments)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test with a scripted broker that clock: pytest-trio only looks at a test's own arguments."""
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()) and item.path.parent.name == "client":
            item.add_marker(pytest.mark.trio(run=run_virtually), append=False)


@pytest.fixture
def broker(nursery: trio.Nursery) -> ScriptedBroker:
    """A scripted broker, on a virtual clock that jumps."""
    return ScriptedBroker(nursery)


@define(eq=False)
class Running:
    """An async call that runs beside the test: `result` once `done`, or `error`."""

    done: trio.Event = field(factory=trio.Event)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    result: Any = None
    error: BaseException | None = None

    async def outcome(self) -> Any:
        with trio.fail_after(PATIENCE):
            await self.done.wait()
        if self.error is not None:
            raise self.error
        return self.result


@define(eq=False)
class Beside:
    """Runs async calls beside the test."""

    nursery: trio.Nursery

    async def __call__(self, call: Any, *arguments: Any, **options: Any) -> Running:
        """Start a call and let it come as far as it can."""
        running = Running()

        async def run() -> None:
            try:
                with running.scope:
                    running.result = await call(*arguments, **options)
            except tercet.TercetError as error:
                running.error = error
            finally:
                running.done.set()

        self.nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        return running


@pytest.fixture
def beside(nursery: trio.Nursery) -> Beside:
    """A way to start calls beside the test."""
    return Beside(nursery)

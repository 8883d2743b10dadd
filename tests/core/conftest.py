"""A broker without sockets: peers that speak to the core's sessions in dicts, and check its books as they go."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from tercet_broker.core import (
    Answer,
    Broker,
    BrokerSettings,
    HistorySettings,
    LimitSettings,
    Moment,
    NamespaceSettings,
    Session,
)
from tercet_protocol import CloseCode

EVERYTHING = 1 << 30  # bytes; more than any outbox holds
WALL = 1_795_339_200_000  # the wall clock at monotonic 0, in milliseconds


def split_frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the payloads of the whole server frames in `data`, and the beginning of the next (RFC 6455, 5.2)."""
    payloads = []
    while len(data) >= 2:
        assert data[0] == 0x81, "every frame of the core is one whole text message"
        size, at = data[1], 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            if len(data) < 2 + wide:
                break
            size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
        if len(data) < at + size:
            break
        payloads.append(data[at : at + size])
        data = data[at + size :]
    return payloads, data


@define(eq=False)
class FakeCarrier:
    """Notes what a session tells its carrier."""

    wakes: int = 0
    asked: deque[tuple[str, Answer]] = field(factory=deque)  # tokens to be verified
    closed: tuple[CloseCode, str] | None = None

    def wake(self) -> None:
        self.wakes += 1

    def close(self, code: CloseCode, reason: str) -> None:
        assert self.closed is None, "a connection is closed once"
        self.closed = (code, reason)

    def authenticate(self, token: str, answer: Answer) -> None:
        self.asked.append((token, answer))


@define(eq=False)
class Peer:
    """One connection, seen from its client.

    Attributes:
        payloads: all that arrived whole, as it was on the wire.
        partial: the beginning of the frame that is arriving.
    """

    world: World = field(repr=False)
    carrier: FakeCarrier = field(repr=False)
    session: Session = field(repr=False)
    payloads: list[bytes] = field(factory=list, repr=False)
    partial: bytes = b""
    _taken: int = field(default=0, repr=False)
    _ids: itertools.count[int] = field(factory=lambda: itertools.count(1), repr=False)

    @property
    def close_code(self) -> int | None:
        return None if self.carrier.closed is None else int(self.carrier.closed[0])

    def send(self, op: str, **fields: Any) -> None:
        """Send a request; `id` is as given, or absent."""
        self.send_raw(json.dumps({"op": op, **fields}))

    def send_raw(self, payload: str | bytes) -> None:
        self.session.receive(payload, self.world.moment)
        self.world.check()

    def flush(self, count: int = EVERYTHING) -> int:
        """Let the socket take up to `count` bytes; return how many it took."""
        self.world.broker.fan_out.settle()
        data = self.session.outbox.peek(count)[:count]
        self.session.outbox.sent(len(data))
        arrived, self.partial = split_frames(self.partial + data)
        self.payloads.extend(arrived)
        return len(data)

    def take(self) -> list[dict[str, Any]]:
        """Drain the connection and return the events that arrived since the last time."""
        for _ in range(100_000):
            moved = self.flush()
            if self.session.outbox.is_behind:
                self.session.advance()
            elif not moved:
                break
        else:
            raise AssertionError("the replays get nowhere")
        self.world.check()
        return self.arrived()

    def arrived(self) -> list[dict[str, Any]]:
        """Return the events that have arrived since the last time, without draining."""
        new = [json.loads(payload) for payload in self.payloads[self._taken :]]
        self._taken = len(self.payloads)
        return new

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request with an id of its own and return its reply; it has to be the last event."""
        id_ = fields.pop("id", None) or 1_000_000 + next(self._ids)
        self.send(op, id=id_, **fields)
        reply = self.take()[-1]
        assert reply.get("id") == id_, reply
        return reply

    def publish(self, topic: str, data: Any = 0, **fields: Any) -> None:
        """Publish without asking for a reply."""
        self.send("publish", topic=topic, data=data, **fields)

    def queued(self) -> list[dict[str, Any]]:
        """Return what has not arrived whole yet, the frame that is arriving included."""
        frames, rest = split_frames(self.partial + self.session.outbox.peek(EVERYTHING))
        assert rest == b"", "the outbox holds whole frames"
        return [json.loads(payload) for payload in frames]

    def hang_up(self) -> None:
        """Cut the connection, as the runtime does it."""
        self.session.leave()
        self.session.outbox.close()
        self.world.check()


@define(eq=False)
class World:
    """A broker, its clock, and every peer there ever was."""

    broker: Broker = field(repr=False)
    now: float = 0.0
    peers: list[Peer] = field(factory=list, repr=False)

    @property
    def moment(self) -> Moment:
        return Moment(now=self.now, time=WALL + int(self.now * 1000))

    def open(self) -> Peer:
        """Return a connection that has sent nothing yet."""
        carrier = FakeCarrier()
        peer = Peer(self, carrier, self.broker.open(carrier))
        self.peers.append(peer)
        return peer

    def join(self) -> Peer:
        """Return a connection that has its `connected`."""
        peer = self.open()
        assert peer.ask("connect")["op"] == "connected"
        return peer

    def wait(self, seconds: float) -> None:
        """Let time pass; the sweeper comes at its end."""
        self.now += seconds
        for _ in self.broker.sweep(self.now):
            self.check()
        self.check()

    def check(self) -> None:
        """Everything adds up: each account, and the namespaces' against what the outboxes hold."""
        accounts = [(name, account.statistics()) for name, account in self.broker.accounts()]
        assert all(account.balanced for _, account in accounts)
        namespaces = accounts[len(self.broker.sessions) :]
        by_namespace: Counter[str] = Counter()
        for peer in self.peers:
            outbox = peer.session.outbox
            account = outbox.account.statistics()
            assert account.balanced
            queued = peer.queued() if len(outbox) else []
            deliveries = [event for event in queued if event["op"] == "message"]
            assert account.queued == len(deliveries)
            assert len(outbox) == len(queued)
            assert outbox.notices == len(queued) - len(deliveries)
            assert outbox.size == len(outbox.peek(EVERYTHING))
            by_namespace.update(event["topic"].split("/")[0] for event in deliveries)
        assert {name: account.queued for name, account in namespaces if account.queued} == by_namespace


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Make a world: `unnamed` settles all namespaces, or name some; `limits` by keyword.

    With `settles_later`, messages are offered when a socket next takes something, or earlier where they must be.
    """

    def make(
        unnamed: NamespaceSettings | None = None,
        *,
        namespaces: dict[str, NamespaceSettings] | None = None,
        only_named: bool = False,
        unnamed_limit: int = 1000,
        settles_later: bool = False,
        **limits: Any,
    ) -> World:
        settings = BrokerSettings(
            namespaces=namespaces or {},
            unnamed=None if only_named else unnamed or NamespaceSettings(history=HistorySettings()),
            unnamed_limit=unnamed_limit,
            limits=LimitSettings(**limits),
        )
        broker = Broker(settings, random.Random(1))
        if settles_later:
            broker.fan_out.settle_soon = lambda: None  # `Peer.flush` does it, as the flusher would
        return World(broker)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A broker in which every namespace has history."""
    return make_world()

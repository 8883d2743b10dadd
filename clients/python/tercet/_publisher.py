"""Publishes in flight: sent again under their keys until their outcome is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import trio
from attrs import define, field
from msgspec import Raw

import tercet_protocol as protocol
from tercet_protocol import ErrorCode, Position

from ._errors import OutcomeUnknownError, RefusedError, TercetError
from ._link import Link
from ._message import Published
from ._room import Room
from ._slot import Slot

# The broker closes the connection, for good, on a frame over twice
# `limits.message_bytes` (protocol.md, section 6). One message is no reason for that.
_FATAL_FACTOR = 2
# Until a broker has said otherwise (protocol.md, section 3).
_DEFAULT_KEY_SECONDS = 300.0


@define(eq=False)
class Outstanding:
    """One publish whose outcome is not known. Its bytes are the same each time they are sent."""

    id: int
    topic: str
    key: str | None  # without one it must not be sent twice (protocol.md, P-013)
    frame: bytes
    settle: Callable[[Published | TercetError], None]
    first_sent: float | None = None  # trio's clock


@define(eq=False)
class Publisher:
    """Keeps what was published, in order, until the broker has answered.

    The number and the bytes of it are bounded by `room`.
    """

    _ids: Iterator[int]
    _entropy: random.Random
    room: Room
    published: int = field(default=0, init=False)  # acknowledged
    resent: int = field(default=0, init=False)
    _outstanding: dict[int, Outstanding] = field(factory=dict, init=False)  # in order
    _link: Link | None = field(default=None, init=False)
    _key_seconds: float = field(default=_DEFAULT_KEY_SECONDS, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)

    def __len__(self) -> int:
        return len(self._outstanding)

    def prepare(  # noqa: PLR0913 - one option for each field of the wire
        self, topic: str, data: object, *, retain: bool, echo: bool, key: str | None, keyed: bool
    ) -> Outstanding:
        """Return a publish that is not yet in flight; `settle` is to be set.

        Raises:
            ValueError: `data` has no JSON form, or `key` has not 16 to 64 characters.
        """
        if key is not None and not protocol.MIN_KEY_LENGTH <= len(key) <= protocol.MAX_KEY_LENGTH:
            # A broker counts malformed requests, and closes on a row of them.
            raise ValueError(f"a key has {protocol.MIN_KEY_LENGTH} to {protocol.MAX_KEY_LENGTH} characters")
        if key is None and keyed:
            key = f"{self._entropy.getrandbits(128):032x}"
        id_ = next(self._ids)
        raw = data if isinstance(data, Raw) else protocol.to_json(data)
        request = protocol.Publish(id=id_, topic=topic, data=raw, retain=retain, key=key, echo=echo)
        return Outstanding(id_, topic, key, protocol.encode(request), _ignore)

    async def publish(self, entry: Outstanding) -> Published:
        """Put a publish in flight, when there is room, and return its outcome.

        Cancelled, it is forgotten: it may have been sent, but will not be again.
        """
        size = len(entry.frame)
        await self.room.take(size)
        slot: Slot[Published] = Slot()
        entry.settle = slot.fill
        self.add(entry)
        try:
            return await slot.wait()
        finally:
            self.forget(entry)

    def add(self, entry: Outstanding) -> None:
        """Put a publish in flight, for which room was taken."""
        self._outstanding[entry.id] = entry
        if self._link is not None:
            self._send(self._link, entry)

    def forget(self, entry: Outstanding) -> None:
        """Do not send it again, and ignore its outcome; nothing if that is known."""
        if self._outstanding.pop(entry.id, None) is not None:
            self.room.give(len(entry.frame))

    # The connection's side

    def attach(self, link: Link) -> None:
        """Send again, in order, whatever the last connection left open."""
        self._link = link
        self._key_seconds = link.limits.key_seconds
        self._notify()
        self._expire()
        for entry in tuple(self._outstanding.values()):
            self.resent += entry.first_sent is not None
            self._send(link, entry)

    def detach(self) -> None:
        """Note that the connection has ended."""
        self._link = None
        for entry in tuple(self._outstanding.values()):
            if entry.key is None and entry.first_sent is not None:
                self._settle(entry, OutcomeUnknownError(entry.topic, None))
        self._notify()

    def accepted(self, event: protocol.Published) -> None:
        """Take in that a message was published."""
        entry = self._outstanding.get(event.id or 0)
        if entry is not None:
            self.published += 1
            self._settle(entry, Published(Position(event.epoch, event.seq), event.duplicate))

    def refused(self, event: protocol.Error) -> bool:
        """Take in an error; return False if it is not for a publish."""
        entry = self._outstanding.get(event.id or 0)
        if entry is None:
            return False
        if event.code == ErrorCode.UNAVAILABLE and self._link is not None and self._link.is_draining:
            if entry.key is None:
                entry.first_sent = None  # it was sent once and refused, so nothing is in doubt
            return True  # the broker is about to restart: it goes out over the next connection
        self._settle(entry, RefusedError(event.code, event.message, event.retry_after))
        return True

    def stop(self, error: Callable[[], TercetError]) -> None:
        """Let everything in flight, waiting or to come have `error()`."""
        self._link = None
        self.room.close(error)
        for entry in tuple(self._outstanding.values()):
            self._settle(entry, error())

    async def expire(self) -> None:
        """Settle, while there is no connection, what the broker's memory of keys has outlived.

        Runs until it is cancelled. Over a connection an answer may still come.
        """
        while True:
            self._changed = trio.Event()
            deadline = self._next_expiry() if self._link is None else None
            with trio.move_on_at(float("inf") if deadline is None else deadline):
                await self._changed.wait()
            if self._link is None:
                self._expire()

    # Within

    def _next_expiry(self) -> float | None:
        sent = [entry.first_sent for entry in self._outstanding.values() if entry.first_sent is not None]
        return min(sent) + self._key_seconds if sent else None

    def _expire(self) -> None:
        now = trio.current_time()
        for entry in tuple(self._outstanding.values()):
            if entry.first_sent is not None and now >= entry.first_sent + self._key_seconds:
                self._settle(entry, OutcomeUnknownError(entry.topic, entry.key))

    def _send(self, link: Link, entry: Outstanding) -> None:
        if len(entry.frame) > _FATAL_FACTOR * link.limits.message_bytes:
            text = f"the message has {len(entry.frame)} bytes, the broker takes {link.limits.message_bytes}"
            self._settle(entry, RefusedError(ErrorCode.TOO_LARGE.value, text))
            return
        if entry.first_sent is None:
            entry.first_sent = trio.current_time()
        link.send(entry.frame)

    def _settle(self, entry: Outstanding, result: Published | TercetError) -> None:
        self.forget(entry)
        entry.settle(result)

    def _notify(self) -> None:
        self._changed.set()


def _ignore(_result: Published | TercetError) -> None:
    """Stand in until someone waits for the outcome."""

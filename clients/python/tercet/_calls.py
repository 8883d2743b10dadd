"""Requests that only read: asked again over the next connection, until they are answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio
from attrs import define, field

import tercet_protocol as protocol
from tercet_protocol import ErrorCode, HistoryReply, PongEvent

from ._errors import RefusedError, TercetError
from ._link import Link
from ._slot import Slot

Answer = HistoryReply | PongEvent


@define(eq=False)
class _Call:
    frame: bytes
    kind: type[Answer]
    slot: Slot[tuple[Answer, float]] = field(factory=Slot, init=False)
    sent: float = field(default=0.0, init=False)


@define(eq=False)
class Calls:
    """The open calls. There is at most one for each task that waits for its answer."""

    _ids: Iterator[int]
    _open: dict[int, _Call] = field(factory=dict, init=False)
    _link: Link | None = field(default=None, init=False)
    _error: Callable[[], TercetError] | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._open)

    async def ask(self, request: protocol.History | protocol.Ping, kind: type[Answer]) -> tuple[Answer, float]:
        """Return the answer, and how long it took since it was last asked, in seconds.

        Cancelled, the call is forgotten.
        """
        if self._error is not None:
            raise self._error()
        request.id = next(self._ids)
        call = _Call(protocol.encode(request), kind)
        self._open[request.id] = call
        try:
            if self._link is not None:
                self._send(self._link, call)
            return await call.slot.wait()
        finally:
            self._open.pop(request.id, None)

    def attach(self, link: Link) -> None:
        """Ask again what the last connection left open."""
        self._link = link
        for call in self._open.values():
            self._send(link, call)

    def detach(self) -> None:
        """Note that the connection has ended."""
        self._link = None

    def answered(self, event: Answer) -> None:
        """Take in an answer."""
        call = self._open.get(event.id or 0)
        if call is not None and isinstance(event, call.kind):
            call.slot.fill((event, trio.current_time() - call.sent))

    def refused(self, event: protocol.Error) -> bool:
        """Take in an error; return False if it is not for a call."""
        call = self._open.get(event.id or 0)
        if call is None:
            return False
        if event.code == ErrorCode.UNAVAILABLE and self._link is not None and self._link.is_draining:
            return True
        call.slot.fill(RefusedError(event.code, event.message, event.retry_after))
        return True

    def stop(self, error: Callable[[], TercetError]) -> None:
        """Let every call that is open or to come have `error()`."""
        self._link = None
        self._error = error
        for call in self._open.values():
            call.slot.fill(error())

    def _send(self, link: Link, call: _Call) -> None:
        call.sent = trio.current_time()
        link.send(call.frame)

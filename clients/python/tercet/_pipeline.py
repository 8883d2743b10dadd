"""Many publishes at once, without waiting for each."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import trio
from attrs import define, field

from ._errors import ClosedError, TercetError
from ._message import Published
from ._publisher import Outstanding, Publisher
from ._room import Room

_YIELD_EVERY = 64  # publishes between two schedule points while nothing makes it wait


@define(eq=False)
class Pipeline:
    """Publishes in order, with at most `window` outcomes open. Made by `client.pipeline()`.

    It is an async context manager. To leave the block normally waits for all
    outcomes and raises the first failure. To leave it by an exception or
    cancelled waits for nothing: what is in flight may be published or not, and
    is not sent again.
    """

    _publisher: Publisher
    _window: Room
    _keyed: bool
    published: int = field(default=0, init=False)  # acknowledged so far
    _open: dict[Outstanding, None] = field(factory=dict, init=False)
    _failure: TercetError | None = field(default=None, init=False)
    _settled: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _calls: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)

    async def publish(
        self, topic: str, data: object, *, retain: bool = False, echo: bool = True, key: str | None = None
    ) -> None:
        """Put one message on its way; wait only while the window is full.

        Arguments are those of `Client.publish`. Cancelled, it has sent nothing.

        Raises:
            RefusedError, OutcomeUnknownError, BrokenClientError,
            ClosedClientError: an earlier publish failed so; the first one counts.
            ValueError: `data` has no JSON form.
        """
        self._check()
        self._calls += 1
        if self._calls % _YIELD_EVERY:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        entry = self._publisher.prepare(topic, data, retain=retain, echo=echo, key=key, keyed=self._keyed)
        size = len(entry.frame)
        if not self._window.try_take(size):
            await self._window.take(size)
        try:
            if not self._publisher.room.try_take(size):
                await self._publisher.room.take(size)
        except BaseException:
            self._window.give(size)
            raise
        if self._failure is not None or self._closed:
            self._window.give(size)
            self._publisher.room.give(size)
            self._check()
        self._open[entry] = None
        entry.settle = lambda result: self._settle(entry, result)
        self._publisher.add(entry)

    async def drain(self) -> None:
        """Wait until every outcome is known.

        Raises what `publish` raises.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._open:
            await self._settled.park()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise ClosedError("this pipeline's block was left")

    def _settle(self, entry: Outstanding, result: Published | TercetError) -> None:
        self._open.pop(entry, None)
        self._window.give(len(entry.frame))
        if isinstance(result, TercetError):
            self._failure = self._failure or result
        else:
            self.published += 1
        if not self._open:
            self._settled.unpark_all()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self.drain()
        finally:
            self._closed = True
            for entry in self._open:
                self._publisher.forget(entry)
            self._open.clear()

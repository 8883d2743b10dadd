"""A place for one result that one task waits for."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio
from attrs import define, field

from ._errors import TercetError

T = TypeVar("T")


@define(eq=False)
class Slot(Generic[T]):
    """Filled once, by sync code; what comes later is ignored."""

    _filled: trio.Event = field(factory=trio.Event, init=False)
    _result: T | TercetError | None = field(default=None, init=False)

    def fill(self, result: T | TercetError) -> None:
        """Let the one who waits have `result`, or raise it."""
        if not self._filled.is_set():
            self._result = result
            self._filled.set()

    async def wait(self) -> T:
        """Return the result, or raise it."""
        await self._filled.wait()
        if isinstance(self._result, TercetError):
            raise self._result
        return self._result  # type: ignore[return-value] # filled, so it is a T

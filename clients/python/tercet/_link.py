"""What the rest of the client sees of a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tercet_protocol import Limits


class Link(Protocol):
    """An open connection, from `connected` until it ends. All of it is sync."""

    @property
    def limits(self) -> Limits:
        """What the broker bounds."""

    @property
    def is_draining(self) -> bool:
        """Whether the broker has announced that it will close this connection."""

    def send(self, payload: bytes) -> None:
        """Hand one request over for sending. It never waits and never fails."""

    def fail(self, code: int, reason: str) -> None:
        """Close the connection, because the broker broke the protocol."""

    def hold(self) -> None:
        """See whether reading may wait before it goes on: an application is behind."""

    def ease(self) -> None:
        """Let reading go on if it waits for an application."""

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds, unless the connection has ended by then."""

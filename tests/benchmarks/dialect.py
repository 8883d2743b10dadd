"""What a load has to say to a broker. Topics and filters are spelled as in Tercet; a dialect respells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen


@frozen
class Step:
    """Bytes to send, and what the answer is known by.

    Attributes:
        until: stands in the answer …
        times: … so many times, when the step is done.
    """

    send: bytes = field(repr=False)
    until: bytes
    times: int = 1


class Dialect(Protocol):
    """The protocol of a broker, as a client writes it."""

    def greet(self, number: int) -> list[Step]:
        """Become a connected client: from the HTTP request to the broker's welcome."""

    def subscribe(self, filters: Sequence[str]) -> Step:
        """Subscribe to all of `filters` at once."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:
        """Publish, without an answer unless `ack` is asked for and known here."""

"""What the core is told about time and chance: it has neither clock nor randomness of its own."""

from __future__ import annotations

from typing import Protocol

from attrs import define


@define(eq=False)
class Moment:
    """One instant, on both clocks. Never changed, and not frozen only because that takes twice the time to make.

    Attributes:
        now: monotonic seconds; deadlines and expiry count in these.
        time: wall clock in milliseconds since 1970; what a message is stamped with.
    """

    now: float
    time: int


class Entropy(Protocol):
    """Where randomness comes from; `random.Random` and `random.SystemRandom` are such sources."""

    def getrandbits(self, k: int, /) -> int:
        """Return `k` random bits as an integer."""

    def uniform(self, a: float, b: float) -> float:
        """Return a number between `a` and `b`."""

"""Time and chance, as the daemon gets them unless it is given others."""

from __future__ import annotations

import random
import time
from typing import Protocol

import trio
from attrs import frozen

from ..core import Entropy, Moment

_NANOSECONDS = 1_000_000  # in a millisecond


class Clock(Protocol):
    """Where the instants come from."""

    def moment(self) -> Moment:
        """Return the present, on both clocks."""


@frozen
class SystemClock:
    """Trio's clock for what is timed, the system's for what is stamped."""

    def moment(self) -> Moment:
        """Return the present; must be called from within a Trio run."""
        return Moment(now=trio.current_time(), time=time.time_ns() // _NANOSECONDS)


def system_entropy() -> Entropy:
    """Return the operating system's randomness."""
    return random.SystemRandom()

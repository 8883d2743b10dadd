"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

from attrs import define, field

_FIRST = 0.5  # seconds: the bound of the first wait
_LONGEST = 30.0
_STEADY = 60.0  # a connection that lasted so long ends a row of failures
_MOST_DOUBLINGS = 10  # 0.5 s doubled so often is past the longest


@define(eq=False)
class Backoff:
    """Full jitter: uniform over 0 to min(30 s, 0.5 s doubled per attempt) (protocol.md, section 6).

    Thousands of clients that lost the same broker come back spread out.
    """

    _entropy: random.Random
    _attempt: int = field(default=0, init=False)

    def next(self) -> float:
        """Return the seconds to wait, and count the attempt."""
        bound = min(_LONGEST, _FIRST * 2 ** min(self._attempt, _MOST_DOUBLINGS))
        self._attempt += 1
        return self._entropy.uniform(0, bound)

    def lasted(self, seconds: float) -> bool:
        """Take in how long a connection lasted; return whether that starts the row over."""
        if seconds < _STEADY:
            return False
        self._attempt = 0
        return True

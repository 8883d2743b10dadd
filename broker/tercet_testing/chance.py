"""All chance of a simulated world, from one seed, in streams that do not disturb each other.

A stream is named by what it decides. Two streams of one seed are independent:
another draw for the network changes nothing in what the scheduler draws. The
draws of a `Choices` stream are numbered, and the n-th depends on the seed and
on n alone; so a failing run can be repeated with some of its choices undone
(`shrinking.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from hashlib import blake2b

from attrs import define, field

_BITS = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea, Flood 2014): a cheap, well mixed draw for each number

_PER_SECOND = 1_000_000  # instants that are told apart
_NUMBER_BITS = 24  # of a choice's number within its instant


def seed_of(seed: int, name: str) -> int:
    """Return the 64-bit seed of the stream `name`."""
    return int.from_bytes(blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big")


def stream(seed: int, name: str) -> random.Random:
    """Return a stream of draws whose order matters: entropy, the application's own."""
    return random.Random(seed_of(seed, name))


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _BITS
    return value ^ (value >> 31)


@define(eq=False)
class Choices:
    """A stream of numbered choices, each of which can be undone.

    With a clock they are numbered anew in each instant, so that to undo one
    does not renumber those of later instants.

    Attributes:
        now: the clock, which returns seconds.
        kept: the numbers of the choices that are made; the others take their default. None makes all.
        extreme: the probability with which a choice from a range takes its end, and else its beginning; None: any.
        made: how many there were so far.
        deviations: the numbers of those that did not take their default.
    """

    seed: int
    kept: Container[int] | None = None
    now: Callable[[], float] | None = None
    extreme: float | None = None
    made: int = 0
    deviations: list[int] = field(factory=list)
    _instant: int = 0
    _number: int = -1

    def draw(self) -> int | None:
        """Return 64 random bits for the next choice, or None if it is to take its default."""
        self.made += 1
        instant = 0 if self.now is None else round(self.now() * _PER_SECOND)
        self._number = self._number + 1 if instant == self._instant else 0
        self._instant = instant
        number = instant << _NUMBER_BITS | self._number
        if self.kept is not None and number not in self.kept:
            return None
        return self._bits(number)

    def steady(self, period: int) -> int:
        """Return 64 random bits that stay the same for `period` choices of an instant, made or undone."""
        return self._bits(self._instant << _NUMBER_BITS | self._number // period, 1)

    def _bits(self, number: int, stream: int = 0) -> int:
        return _mix((self.seed + (number * 2 + stream + 1) * _STEP) & _BITS)

    def deviate(self) -> None:
        """Note that the choice just drawn did not take its default."""
        self.deviations.append(self._instant << _NUMBER_BITS | self._number)

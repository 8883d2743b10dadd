"""In which order runnable tasks run: the policies.

Trio runs the tasks that are runnable in passes and shuffles each pass. A
policy replaces that shuffle. It sees the tasks in the order of their
creation, arranges them, and may hold some back for the next pass: time does
not move meanwhile, so to hold a task back is to let the others overtake it.

- `fair`: every order of a pass is as likely. Finds races between two tasks
  that wake at once.
- `starve`: also holds each task back with probability 1/2. Finds races that
  need one task to be several steps late.
- `ranked`: runs one task at a time, by random ranks that change now and then
  (PCT, Burckhardt et al. 2010). Finds races that need a task to be late long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define

from .chance import Choices

_CHANGE = 16  # `ranked`: so many passes of an instant have the same ranks


class Policy(Protocol):
    """Arranges one pass."""

    def arrange(self, count: int) -> tuple[list[int], list[int]]:
        """Return (run, held): the places 0 … count-1, in running order, and those held back; run is not empty."""


def _permute(count: int, bits: int) -> list[int]:
    """Return the places in an order that `bits` chooses (Fisher and Yates)."""
    places = list(range(count))
    for last in range(count - 1, 0, -1):
        bits, other = divmod(bits, last + 1)
        places[last], places[other] = places[other], places[last]
        if not bits:
            bits = last * 0x9E3779B97F4A7C15  # very many tasks: any order will do for the rest
    return places


@define(eq=False)
class Fair:
    """Every order of a pass is as likely."""

    choices: Choices

    def arrange(self, count: int) -> tuple[list[int], list[int]]:
        """Shuffle."""
        bits = self.choices.draw()
        if bits is None:
            return list(range(count)), []
        places = _permute(count, bits)
        if places != sorted(places):
            self.choices.deviate()
        return places, []


@define(eq=False)
class Starve:
    """Shuffles, and holds each task back with probability 1/2, but never all of them."""

    choices: Choices

    def arrange(self, count: int) -> tuple[list[int], list[int]]:
        """Shuffle and hold back."""
        bits = self.choices.draw()
        if bits is None:
            return list(range(count)), []
        mask = bits >> 32
        places = _permute(count, bits & 0xFFFFFFFF)
        run = [place for place in places if not mask >> (place % 32) & 1]
        held = [place for place in places if mask >> (place % 32) & 1]
        if not run:
            run, held = held[:1], held[1:]
        if held or run != sorted(run):
            self.choices.deviate()
        return run, held


@define(eq=False)
class Ranked:
    """Runs one task of a pass, the one of the highest rank; ranks are drawn anew now and then."""

    choices: Choices

    def arrange(self, count: int) -> tuple[list[int], list[int]]:
        """Run the first by rank, hold back the others."""
        if self.choices.draw() is None:
            return list(range(count)), []
        first = self.choices.steady(_CHANGE) % count
        self.choices.deviate()
        return [first], [place for place in range(count) if place != first]


POLICIES: dict[str, Callable[[Choices], Policy]] = {"fair": Fair, "starve": Starve, "ranked": Ranked}

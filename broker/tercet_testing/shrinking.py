"""From a failing run to the fewest choices with which it still fails.

A run is a seed and three streams of numbered choices: which fault happened
when, which segment was late, and which order the scheduler took. Each choice
can be undone on its own. So this is delta debugging (Zeller and Hildebrandt
2002) over the choices that mattered: undo a part of them, keep what still
fails, and go on with smaller parts, until no single one can be undone.

Choices depend on each other: with one undone, others are made at another
moment. So the least that can be reached from one failing run may still be
much. Then other draws of the same seed are tried, of which one kind of choice
is enough to fail, and the smallest of all is taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import define, evolve, frozen

from .running import LIMIT, Kept, Outcome, Scenario, run_seed

_TRIES = 10  # runs to find one that passes beside the smallest that fails
_DRAWS = 300  # other draws that are tried for a smaller start
_IN_VAIN = 60  # that many of them pass one after the other, and it seems that no draw is simple
_FEW = 2  # choices: a person wants no less

BUDGET = 2000  # runs
PATIENCE = 10.0  # real seconds

_KINDS = ("faults", "delays", "scheduling")


@frozen
class Chosen:
    """The numbers of the choices that a run makes; all others take their default.

    Attributes:
        whole: a kind of which all are made, whatever their numbers; None once they are known.
        draw: which draw of the seed they are of.
        policy: the scheduling policy; None for that of the run that failed.
    """

    faults: tuple[int, ...] = ()
    delays: tuple[int, ...] = ()
    scheduling: tuple[int, ...] = ()
    draw: int = 0
    policy: str | None = None
    whole: str | None = None

    def with_only(self, what: str, numbers: tuple[int, ...]) -> Chosen:
        """Return these with others of one kind."""
        changes: dict[str, Any] = {what: numbers}
        return evolve(self, **changes)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is left to chance."""
        return self.count == 0

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(getattr(self, what)) for what in _KINDS)

    @property
    def kept(self) -> Kept:
        """What runs just these."""
        faults, delays, scheduling = (
            None if what == self.whole else frozenset[int](getattr(self, what)) for what in _KINDS
        )
        return Kept(scheduling, delays, faults, self.draw)


# Where nothing but the network, or nothing but the scheduler, is left to chance.
_STARTS = [
    start
    for draw in range(1, _DRAWS + 1)
    for start in (Chosen(draw=draw, whole="delays"), Chosen(draw=draw, policy="fair", whole="scheduling"))
]


@frozen
class Shrunk:
    """The smallest failing run that was found.

    Attributes:
        outcome: how it went.
        chosen: the choices that it needs.
        passing: a run with one choice less, which passes; None if none was tried.
        runs: how many runs it took to find.
        is_minimal: whether none of the choices can be undone; if not, the budget was used up before that was known.
    """

    outcome: Outcome
    chosen: Chosen
    passing: Outcome | None
    runs: int
    is_minimal: bool


@define(eq=False)
class _Shrinker:
    scenario: Scenario
    failed: Outcome
    best: Outcome
    chosen: Chosen
    limit: float
    budget: int
    until: float  # real seconds, of the monotonic clock
    runs: int = 0
    is_minimal: bool = False

    @property
    def may_go_on(self) -> bool:
        return self.runs < self.budget and time.monotonic() < self.until

    def run(self, chosen: Chosen) -> Outcome:
        """Run with just these choices."""
        self.runs += 1
        policy = chosen.policy or self.failed.policy
        return run_seed(self.scenario, self.failed.seed, policy=policy, kept=chosen.kept, limit=self.limit)

    def take(self, chosen: Chosen) -> bool:
        """Go on from these choices if the run fails with them in the same way."""
        outcome = self.run(chosen)
        if outcome.error is None or type(outcome.error) is not type(self.failed.error):
            return False
        # Those that were not made, or took their default anyway, are no more of interest.
        self.chosen = Chosen(outcome.faults, outcome.delays, outcome.scheduling, draw=chosen.draw, policy=chosen.policy)
        self.best = outcome
        return True

    def drop_kinds(self) -> None:
        """Try without all choices of a kind."""
        for what in _KINDS:
            if getattr(self.chosen, what) and self.may_go_on:
                self.take(self.chosen.with_only(what, ()))

    def minimise_all(self) -> bool:
        """Undo what can be undone, kind by kind, and all again as long as that leaves less; return whether it ended."""
        before = -1
        while self.chosen.count != before:
            before = self.chosen.count
            self.drop_kinds()
            if not all(self.minimise(what) for what in _KINDS):
                return self.chosen.is_empty
        return True

    def find_simple_draw(self) -> None:
        """Look for a draw that fails with choices of one kind alone."""
        next((start for start in _STARTS[:_IN_VAIN] if self.may_go_on and self.take(start)), None)

    def try_other_draws(self) -> None:
        """Look for a draw that fails with fewer choices."""
        in_vain = 0
        for start in _STARTS:
            if in_vain == _IN_VAIN or (self.is_minimal and self.chosen.count <= _FEW) or not self.may_go_on:
                return
            before = self.chosen, self.best, self.is_minimal
            in_vain += 1
            if self.take(start):
                in_vain = 0
                self.is_minimal = self.minimise_all()
            if self.chosen.count >= before[0].count:
                self.chosen, self.best, self.is_minimal = before

    def minimise(self, what: str) -> bool:
        """Leave out ever smaller parts of a kind, and at last each alone; return whether that was done to the end."""
        size = max(len(getattr(self.chosen, what)) // 2, 1)
        while True:
            kept: tuple[int, ...] = getattr(self.chosen, what)
            if not kept:
                return True
            smaller = next((some for some in _parts(kept, size) if self._leaves(what, some)), None)
            if not self.may_go_on:
                return False
            if smaller is not None:
                size = max(min(size, len(getattr(self.chosen, what)) // 2), 1)
            elif size == 1:
                return True
            else:
                size = max(size // 2, 1)

    def _leaves(self, what: str, some: tuple[int, ...]) -> bool:
        """Tell whether it still fails with just `some` of a kind, and with less than before."""
        before, best = self.chosen, self.best
        if not self.may_go_on or not self.take(before.with_only(what, some)):
            return False
        if self.chosen.count >= before.count:  # other choices came up instead: no step forward
            self.chosen, self.best = before, best
            return False
        return True

    def with_one_less(self) -> Outcome | None:
        """Return a run that passes and makes all but one of the choices; None if a few tries find none."""
        ways = [(what, n) for what in reversed(_KINDS) for n in getattr(self.chosen, what)]
        for what, number in ways[:_TRIES]:
            rest = tuple(other for other in getattr(self.chosen, what) if other != number)
            outcome = self.run(self.chosen.with_only(what, rest))
            if outcome.error is None:
                return outcome
        return None


def _parts(kept: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """Yield parts of so many, alone, and then what is left without each."""
    starts = range(0, len(kept), size)
    if size < len(kept):
        # Often a single choice is enough, and then it is quickest to look at parts alone.
        yield from (tuple(kept[at : at + size]) for at in starts)
    if len(kept) > 1 or size == 1:
        yield from ((*kept[:at], *kept[at + size :]) for at in starts)


def shrink(
    scenario: Scenario,
    failed: Outcome,
    *,
    budget: int = BUDGET,
    patience: float = PATIENCE,
    limit: float = LIMIT,
) -> Shrunk:
    """Return the smallest failing run that `budget` runs can find; it fails with the same type of error.

    Faults are undone first, then delays of the network, then the scheduler's
    choices: in the order in which a person would like to be rid of them.
    Whole kinds are tried before single choices, and all again as long as
    that leaves less.

    Args:
        patience: real seconds after which no more is tried.
        limit: virtual seconds that a run may take.
    """
    began = time.monotonic()
    chosen = Chosen(failed.faults, failed.delays, failed.scheduling)
    shrinker = _Shrinker(scenario, failed, failed, chosen, limit, budget, began + patience)
    shrinker.drop_kinds()
    if shrinker.chosen.count > _FEW and shrinker.chosen.scheduling:
        shrinker.until = began + patience / 4
        shrinker.find_simple_draw()
        shrinker.until = began + patience / 2
    shrinker.is_minimal = shrinker.minimise_all()
    shrinker.until = began + patience
    shrinker.try_other_draws()
    smallest, runs = shrinker.best, shrinker.runs
    return Shrunk(smallest, shrinker.chosen, shrinker.with_one_less(), runs, shrinker.is_minimal)


def first_difference(failing: Sequence[str], passing: Sequence[str]) -> tuple[int, str, str] | None:
    """Return (line number from 1, the failing run's line, the passing run's) where two traces part."""
    for number, (mine, other) in enumerate(zip(failing, passing, strict=False), 1):
        if mine != other:
            return number, mine, other
    if len(failing) != len(passing):
        number = min(len(failing), len(passing))
        longer = failing if len(failing) > len(passing) else passing
        pair = (longer[number], "(its end)") if longer is failing else ("(its end)", longer[number])
        return number + 1, *pair
    return None

"""From a failing run to the fewest choices with which it still fails.

A run is a seed and two streams of numbered choices: which order the scheduler
took, and which fault happened when. Each choice can be undone on its own. So
this is delta debugging (Zeller and Hildebrandt 2002) over the choices that
mattered: undo a part of them, keep what still fails, and go on with smaller parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, evolve, frozen

from .running import Kept, Outcome, Scenario, run_seed

_TRIES = 10  # runs to find one that passes beside the smallest that fails


_KINDS = ("faults", "delays", "scheduling")


@frozen
class Chosen:
    """The numbers of the choices that a run makes; all others take their default."""

    faults: tuple[int, ...]
    delays: tuple[int, ...]
    scheduling: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is left to chance."""
        return not (self.faults or self.delays or self.scheduling)


@frozen
class Shrunk:
    """The smallest failing run that was found.

    Attributes:
        outcome: how it went.
        chosen: the choices that it needs.
        passing: a run with one choice less, which passes; None if none was tried.
        runs: how many runs it took to find.
    """

    outcome: Outcome
    chosen: Chosen
    passing: Outcome | None
    runs: int


@define(eq=False)
class _Shrinker:
    scenario: Scenario
    failed: Outcome
    best: Outcome
    runs: int = 0

    def run(self, chosen: Chosen) -> Outcome:
        """Run with just these choices."""
        self.runs += 1
        kept = Kept(frozenset(chosen.scheduling), frozenset(chosen.delays), frozenset(chosen.faults))
        return run_seed(self.scenario, self.failed.seed, policy=self.failed.policy, kept=kept)

    def fails(self, chosen: Chosen) -> bool:
        """Tell whether the run with just these choices fails in the same way."""
        outcome = self.run(chosen)
        if outcome.error is None or type(outcome.error) is not type(self.failed.error):
            return False
        self.best = outcome
        return True

    def with_one_less(self, chosen: Chosen) -> Outcome | None:
        """Return a run that passes and makes all but one of the choices; None if a few tries find none."""
        ways = [(what, n) for what in reversed(_KINDS) for n in getattr(chosen, what)]
        for what, number in ways[:_TRIES]:
            rest = tuple(other for other in getattr(chosen, what) if other != number)
            outcome = self.run(evolve(chosen, **{what: rest}))
            if outcome.error is None:
                return outcome
        return None

    def minimise(self, choices: Sequence[int], fails: Callable[[tuple[int, ...]], bool], until: int) -> tuple[int, ...]:
        """Return a subset that still fails, leaving out ever smaller parts, while there are `until` runs."""
        kept, size = tuple(choices), max(len(choices) // 2, 1)
        while kept and self.runs < until:
            starts = range(0, len(kept), size)
            parts = [kept[at : at + size] for at in starts]
            rests = [kept[:at] + kept[at + size :] for at in starts]
            # Often a single choice is enough, and then it is quickest to look at parts alone.
            smaller = next((some for some in (*parts, *rests) if self.runs < until and fails(some)), None)
            if smaller is not None and len(smaller) < len(kept):
                was_part, kept = len(smaller) <= size, smaller
                size = max(len(kept) // 2, 1) if was_part else min(size, len(kept))
            elif size == 1:
                break
            else:
                size = max(size // 2, 1)
        return kept


def shrink(scenario: Scenario, failed: Outcome, *, budget: int = 200) -> Shrunk:
    """Return the smallest failing run that `budget` runs can find; it fails with the same type of error.

    Faults are undone first, then delays of the network, then the scheduler's
    choices: in the order in which a person would like to be rid of them.
    Whole kinds are tried before single choices, and no kind may use up the
    budget of the next.
    """
    shrinker = _Shrinker(scenario, failed, best=failed)
    chosen = Chosen(failed.faults, failed.delays, failed.scheduling)
    for what in _KINDS:
        without = evolve(chosen, **{what: ()})
        if shrinker.runs < budget and without != chosen and shrinker.fails(without):
            chosen = without
    for number, what in enumerate(_KINDS):

        def fails(some: tuple[int, ...], what: str = what, chosen: Chosen = chosen) -> bool:
            return shrinker.fails(evolve(chosen, **{what: some}))

        share = (budget - shrinker.runs) // (len(_KINDS) - number)
        least = shrinker.minimise(getattr(chosen, what), fails, shrinker.runs + share)
        chosen = evolve(chosen, **{what: least})
    smallest, runs = shrinker.best, shrinker.runs
    return Shrunk(smallest, chosen, shrinker.with_one_less(chosen), runs)


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

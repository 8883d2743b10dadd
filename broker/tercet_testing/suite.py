"""Many seeds of one scenario: run, compare, shrink, report."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import define, field, frozen

from .elsewhere import replay_lines
from .running import LIMIT, Outcome, Scenario, run_seed
from .shrinking import BUDGET, Shrunk, first_difference, shrink
from .values import values_in
from .world import NeverReachedError

DEFAULT_POLICIES = ("fair", "starve", "ranked")
_CHOICE = re.compile(r" (chaos|scheduling choice|late): ")
_NOT_OWN = ("site-packages", "tercet_testing", "tercet_broker", "clients/python", "/lib/python")
_KINDS = {"faults": "faults", "delays": "delays of the network", "scheduling": "scheduling choices"}
_STEM = 120  # characters of a trace's name that tell the scenario
_SHOWN = 20  # lines of a shrunk schedule
_OTHERS = 6  # seeds that are tried before a failure is said to be none of chance
REPEAT_EVERY = 25  # one seed in so many runs twice, and must leave the same trace


class SimulationError(AssertionError):
    """A scenario failed under a seed; the text says which, how to replay it, and what it takes."""


class NotDeterminedError(AssertionError):
    """A seed left two different traces: something in the world does not come from the seed."""


@frozen
class Totals:
    """What many runs add up to.

    Attributes:
        seconds: virtual ones.
        reached: {name of a `sometimes`: how many runs reached it}.
    """

    runs: int = 0
    steps: int = 0
    seconds: float = 0.0
    deliveries: int = 0
    reached: dict[str, int] = field(factory=dict)

    def plus(self, outcome: Outcome) -> Totals:
        """Return the totals with one more run."""
        reached = dict(self.reached)
        for name, count in outcome.reached.items():
            reached[name] = reached.get(name, 0) + bool(count)
        return Totals(
            self.runs + 1,
            self.steps + outcome.steps,
            self.seconds + outcome.seconds,
            self.deliveries + outcome.deliveries,
            reached,
        )


@define(eq=False)
class Suite:
    """One scenario and how it is run.

    Attributes:
        name: what a report calls it.
        policies: seed n runs under the n-th of these, in turn.
        sometimes: states that at least one run must reach.
        replay: writes the command that repeats a seed under a policy.
        traces: the folder that failing runs' traces are written to.
        limit: virtual seconds that a run may take.
        shrink_budget: runs that a failure may be shrunk with.
    """

    name: str
    scenario: Scenario
    policies: Sequence[str] = DEFAULT_POLICIES
    sometimes: Sequence[str] = ()
    replay: Callable[[int, str], str] = field(default=lambda seed, policy: f"seed {seed}, policy {policy}")
    traces: Path = Path(".sim-traces")
    limit: float = LIMIT
    shrink_budget: int = BUDGET

    def policy_of(self, seed: int) -> str:
        """Return the policy that a seed runs under."""
        return self.policies[seed % len(self.policies)]

    def _run(self, seed: int) -> Outcome:
        return run_seed(self.scenario, seed, policy=self.policy_of(seed), limit=self.limit)

    def run_one(self, seed: int) -> Outcome:
        """Run one seed, and now and then the same one twice.

        Raises:
            NotDeterminedError: the two left different traces.
        """
        __tracebackhide__ = True
        outcome = self._run(seed)
        if outcome.error is None and seed % REPEAT_EVERY == 0:
            again = self._run(seed)
            if again.digest != outcome.digest:
                raise NotDeterminedError(self._compare(seed, outcome, again))
        return outcome

    def run(self, seeds: Iterable[int], progress: Callable[[Totals], None] = lambda _: None) -> Totals:
        """Run seeds until one fails.

        Raises:
            SimulationError: one failed, caused by what it raised.
            NeverReachedError: none reached a state that the scenario is about.
        """
        __tracebackhide__ = True
        totals = Totals()
        passing: Outcome | None = None
        for seed in seeds:
            outcome = self.run_one(seed)
            totals = totals.plus(outcome)
            if outcome.error is not None:
                raise SimulationError(self.report(outcome, passing)) from outcome.error
            passing = outcome
            progress(totals)
        self.check_reached(totals)
        return totals

    def replay_one(self, seed: int) -> None:
        """Run one seed just once, so that what it prints, and a debugger, show this run and no other.

        Raises what the scenario raises. The trace is written if it fails.
        """
        __tracebackhide__ = True
        outcome, _ = self.replay_and_report(seed)
        if outcome.error is not None:
            raise outcome.error

    def replay_and_report(self, seed: int) -> tuple[Outcome, str | None]:
        """Run one seed just once, and return how it went and, if it failed, what there is to say of it unshrunk."""
        outcome = self._run(seed)
        if outcome.error is None:
            return outcome, None
        path = self._write_trace(outcome)
        return outcome, "\n".join([*self._head(outcome), f"its trace:  {path}"])

    def check_reached(self, totals: Totals) -> None:
        """Demand that some run was in every state that the scenario is about.

        Raises:
            NeverReachedError: none was.
        """
        __tracebackhide__ = True
        names = dict.fromkeys((*self.sometimes, *totals.reached))
        missing = [name for name in names if not totals.reached.get(name)]
        if missing:
            raise NeverReachedError(f"{self.name}: none of {totals.runs} runs was ever {', '.join(map(repr, missing))}")

    # What a failure says

    def report(self, failed: Outcome, passing: Outcome | None) -> str:
        """Return all that helps with a failing run: it is shrunk for that."""
        small = shrink(self.scenario, failed, budget=self.shrink_budget, limit=self.limit)
        if passing is None and small.chosen.is_empty:
            passing = self._find_passing(failed.seed)
        path = self._write_trace(failed)
        lines = [
            *self._head(failed),
            *replay_lines(self.replay(failed.seed, failed.policy), failed.lines),
            f"its trace:  {path}",
            "",
            *(
                self._describe_certain(small, passing)
                if small.chosen.is_empty
                else self._describe_shrunk(failed, small)
            ),
            *self._describe_difference(small),
        ]
        return "\n".join(lines)

    def _head(self, failed: Outcome) -> list[str]:
        return [
            f"{self.name} fails with seed {failed.seed} under policy {failed.policy!r}:",
            "",
            *(f"    {line}" for line in _say(failed.error)),
            "",
        ]

    def _write_trace(self, failed: Outcome) -> Path:
        self.traces.mkdir(parents=True, exist_ok=True)
        own = self.name.partition("::")[2] or self.name
        stem = re.sub(r"\W+", "_", own).strip("_")[:_STEM]
        path = self.traces / f"{stem}-{failed.seed}-{failed.policy}.trace"
        path.write_text("\n".join(failed.lines) + "\n")
        return path

    def _describe_shrunk(self, failed: Outcome, small: Shrunk) -> list[str]:
        chosen = small.chosen
        what = [line for line in small.outcome.lines if _CHOICE.search(line)]
        least = "" if small.is_minimal else f" (not minimal: gave up after {small.runs} runs)"
        return [
            f"shrunk in {small.runs} runs; of what was left to chance, this is enough to fail{least}:",
            *(
                f"    {len(getattr(chosen, kind))} instead of {len(getattr(failed, kind))} {name}"
                for kind, name in _KINDS.items()
            ),
            *(["    (of another draw of the same seed: the replay takes the longer way)"] if chosen.draw else []),
            *(f"        {line}" for line in what[:_SHOWN]),
            *([f"        … and {len(what) - _SHOWN} more"] if len(what) > _SHOWN else []),
        ]

    def _describe_certain(self, small: Shrunk, passing: Outcome | None) -> list[str]:
        lines = [f"shrunk in {small.runs} runs, until nothing was left to chance:"]
        if passing is None:
            return [*lines, "    it fails always, whatever chance does (no race)"]
        return [
            *lines,
            "    it still fails when tasks run in turn, segments take the least time, and no fault happens;",
            f"    seed {passing.seed} under policy {passing.policy!r} passes, by another order or by its own draws",
        ]

    def _find_passing(self, seed: int) -> Outcome | None:
        """Return a run that passes, of the few seeds after this one."""
        others = (self._run(seed + n + 1) for n in range(_OTHERS))
        return next((outcome for outcome in others if outcome.error is None), None)

    def _describe_difference(self, small: Shrunk) -> list[str]:
        """Return where the run parts from the same with one choice less; another seed parts from it at once."""
        if small.passing is None:
            return []
        parting = first_difference(small.outcome.lines, small.passing.lines)
        if parting is None:
            return []
        number, mine, theirs = parting
        before = small.outcome.lines[max(number - 4, 0) : number - 1]
        return [
            "",
            f"it parts from a run that passes (the same with one choice less) at line {number}:",
            *(f"      {line}" for line in before),
            f"    - {theirs}",
            f"    + {mine}",
        ]

    def _compare(self, seed: int, one: Outcome, other: Outcome) -> str:
        parting = first_difference(one.lines, other.lines)
        text = f"{self.name}: seed {seed} left two different traces"
        return text if parting is None else f"{text}, from line {parting[0]} on:\n    {parting[1]}\n    {parting[2]}"


def _say(error: BaseException | None) -> list[str]:
    """Return what an error says, and where it was raised: the last line of the reader's own code."""
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    walked = list(traceback.walk_tb(None if error is None else error.__traceback__))
    frames = zip(traceback.extract_tb(None if error is None else error.__traceback__), walked, strict=True)
    own = [(said, frame) for said, (frame, _) in frames if not any(part in said.filename for part in _NOT_OWN)]
    if own:
        said, frame = own[-1]
        lines += ["", f"{said.filename}:{said.lineno}, in {said.name}:", f"    {said.line}"]
        if isinstance(error, AssertionError) and not error.args:  # pytest would have said more
            lines += [f"    where {name} = {value}" for name, value in values_in(said.line or "", frame)]
    return lines

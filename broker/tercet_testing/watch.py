"""Looks at every scheduler step of a run: traces it, runs the checks, and notices when nothing will ever happen.

A deadlock is a moment at which no task can run and no deadline is set. A
livelock is one at which tasks run for ever and time stands still. Trio's own
virtual clock spins in the first case, and runs for ever in the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio
from attrs import define, field

from .trace import Trace

_IDLE_PASSES = 3  # without a step; the first moves the clock, the second runs who that wakes
_STEPS_PER_INSTANT = 200_000


class DeadlockError(AssertionError):
    """No task can run, and nothing is going to change that."""


class StuckError(AssertionError):
    """The scenario goes on and on, in virtual time: it waits for what never comes."""


class LivelockError(AssertionError):
    """Tasks run and run, and time stands still."""


def name_of(check: Callable[[], object]) -> str:
    """Return what a report calls a check: its name, and where it is written."""
    code = getattr(check, "__code__", None)
    name = str(getattr(check, "__qualname__", check))
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


@define(eq=False)
class Watch(trio.abc.Instrument):
    """The instrument of one run.

    Attributes:
        checks: called after every step; what one raises ends the run, as does a result that is false and not None.
        error: the first that was raised, or noticed.
        scope: cancelled when there is one.
        steps: how many there were.
    """

    trace: Trace
    checks: list[Callable[[], object]] = field(factory=list)
    error: BaseException | None = None
    scope: trio.CancelScope | None = None
    steps: int = 0
    limit: float = math.inf  # virtual seconds that the run may take
    _labels: dict[trio.lowlevel.Task, str] = field(factory=dict, repr=False)
    _spawned: int = 0
    _idle: int = 0  # passes since the last step
    _instant: float = -1.0
    _steps_now: int = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Number a task: names are not unique."""
        self._spawned += 1
        self._labels[task] = f"{task.name}#{self._spawned}"

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget it."""
        self._labels.pop(task, None)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trace the step."""
        self.steps += 1
        self._idle = 0
        now = trio.current_time()
        self.trace.note(now, self._labels.get(task, task.name))
        if now != self._instant:
            self._instant, self._steps_now = now, 0
        self._steps_now += 1
        if now > self.limit and self.error is None:
            self.fail(StuckError(f"the scenario has not ended after {now:,.0f} virtual seconds:\n" + self._describe()))
        if self._steps_now == _STEPS_PER_INSTANT:
            self.fail(LivelockError(f"{_STEPS_PER_INSTANT} steps, and it is still {now:.3f}; the last: {task.name}"))

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the interface
        """Run the checks."""
        if self.error is not None:
            return
        try:
            for check in self.checks:
                result = check()
                if result is not None and not result:
                    self.fail(AssertionError(f"not always: {name_of(check)} returned {result!r}"))
        except BaseException as error:  # noqa: BLE001 - raised again when the run has ended
            self.fail(error)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - the interface
        """Notice a deadlock."""
        self._idle += 1
        if self._idle < _IDLE_PASSES:
            return
        statistics = trio.lowlevel.current_statistics()
        if statistics.tasks_runnable or statistics.seconds_to_next_deadline < math.inf:
            self._idle = 0
        else:
            self.fail(DeadlockError("no task can run and no deadline is set:\n" + self._describe()))

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, unless it has failed already."""
        if self.error is None:
            self.error = error
            if self.scope is not None:
                self.scope.cancel()

    def _describe(self) -> str:
        """Say where each task waits, Trio's own frames and tasks left out."""
        lines = []
        for task in self._labels:
            frames = [
                f"{frame.f_code.co_qualname}:{line}"
                for frame, line in task.iter_await_frames()
                if not str(frame.f_globals.get("__name__", "")).startswith("trio.")
            ]
            if frames:
                lines.append(f"  {task.name}, in {' > '.join(frames[-3:])}")
        return "\n".join(lines)

"""What Trio and the libraries leave open, tamed for the length of a block. The only such place.

Private names are used here and nowhere else; `tests/simulation/test_determinism.py`
names them, and fails first when a new version of Trio has moved one:

- `trio._core._run._r`, whose `shuffle` arranges each scheduler pass;
- `trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING`, which sorts a pass by the
  tasks' age before that (without it their `id()`s decide);
- `trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq`, to which a task that is
  held back returns;
- `random._urandom`, which `random.SystemRandom` reads.

`os.urandom` feeds wsproto's masks and keys. Everything else that is random or
real is a tripwire: in the world, a thread, a socket, a look at a real clock
and a draw from `random`'s hidden generator raise `TripwireError`. `datetime`
looks at the clock in C, past all of them: a class that stood in for it would
be kept by whatever is imported in the world, and no `datetime` would pickle.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn
from unittest import mock

import trio
from attrs import define
from trio_websocket import WebSocketConnection

from .scheduling import Policy

_run: Any = trio._core._run  # noqa: SLF001 - see above

# Who may look at the clock: tools that run around the world, not in it.
_EXEMPT = ("logging", "pytest", "_pytest", "pluggy", "hypothesis", "coverage", "trio.", "asyncio", "importlib")

_CLOCKS = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep",
    "process_time", "process_time_ns", "thread_time", "thread_time_ns",
)  # fmt: skip
_CALENDARS = ("localtime", "gmtime", "ctime")  # a look at the clock, unless they are told the time
_DRAWS = (
    "random", "uniform", "randint", "randrange", "choice", "choices", "sample", "shuffle", "getrandbits",
    "randbytes", "gauss", "expovariate", "triangular", "betavariate", "normalvariate",
)  # fmt: skip


class TripwireError(AssertionError):
    """Something in the world reached for what does not repeat: the test's fault, or ours."""


def short_name(task: trio.lowlevel.Task) -> str:
    """Return what a person calls a task: its function, with the class it is a method of."""
    return ".".join([part for part in task.name.split(".") if part != "<locals>"][-2:])


@define(eq=False)
class _Shuffler:
    """Stands where Trio keeps its generator."""

    policy: Policy
    note: Callable[[str], None] | None

    def shuffle(self, batch: list[Any]) -> None:
        """Arrange a pass, which Trio has sorted by age and takes from its end."""
        if len(batch) < 2:  # noqa: PLR2004 - nothing to choose
            return
        run, held = self.policy.arrange(len(batch))
        if self.note is not None and (held or run != sorted(run)):
            names = [", ".join(short_name(batch[place]) for place in places) for places in (run, held)]
            self.note(f"scheduling choice: {names[0]}" + (f"; held back: {names[1]}" if held else ""))
        if held:
            _run.GLOBAL_RUN_CONTEXT.runner.runq.extend(batch[place] for place in sorted(held))
        batch[:] = [batch[place] for place in reversed(run)]

    def random(self) -> float:
        """Return a number for whatever else Trio would draw."""
        return 0.0

    def uniform(self, low: float, high: float) -> float:  # noqa: ARG002 - no offset: time begins at 0
        """Return the low end."""
        return low


@contextmanager
def determined(policy: Policy, entropy: random.Random, note: Callable[[str], None] | None) -> Iterator[None]:
    """Make the Trio run that begins in this block repeat itself.

    `entropy` stands in for `os.urandom`; `note`, if there is one, hears of each
    pass that does not run in the order of the tasks' age, and of who is held back.
    """
    state = random.getstate()
    was_collecting = gc.isenabled()
    with ExitStack() as stack:
        patch = stack.enter_context
        patch(mock.patch.object(_run, "_r", _Shuffler(policy, note)))
        patch(mock.patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True))
        patch(mock.patch.object(os, "urandom", entropy.randbytes))
        patch(mock.patch.object(random, "_urandom", entropy.randbytes))
        patch(mock.patch.object(WebSocketConnection, "CONNECTION_ID", itertools.count()))
        gc.disable()  # when finalizers run must not depend on what ran before
        try:
            yield
        finally:
            random.setstate(state)
            if was_collecting:
                gc.enable()


@contextmanager
def tripwires(now: Callable[[], float]) -> Iterator[None]:
    """Make what does not repeat raise `TripwireError`; `now` is what exempt callers see as the time.

    To be entered inside the run: Trio itself opens a socket pair when it begins.
    """
    with ExitStack() as stack:
        for name in _CLOCKS:
            stack.enter_context(mock.patch.object(time, name, _clock_wire(name, getattr(time, name), now)))
        for name in _CALENDARS:
            stack.enter_context(mock.patch.object(time, name, _calendar_wire(name, getattr(time, name))))
        for name in _DRAWS:
            stack.enter_context(mock.patch.object(random, name, _wire(f"random.{name}")))
        stack.enter_context(mock.patch.object(threading.Thread, "start", _wire("a thread")))
        stack.enter_context(mock.patch.object(socket, "socket", _wire("a real socket")))
        stack.enter_context(mock.patch.object(socket, "create_connection", _wire("a real socket")))
        yield


def _wire(what: str) -> Callable[..., NoReturn]:
    def trip(*_: object, **__: object) -> NoReturn:
        raise TripwireError(f"{what} was used inside a simulated world; use what the simulation offers instead")

    return trip


def _clock_wire(name: str, real: Callable[..., Any], now: Callable[[], float]) -> Callable[..., Any]:
    def look(*args: object) -> object:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))  # noqa: SLF001 - documented, CPython
        if not caller.startswith(_EXEMPT):
            raise TripwireError(f"time.{name} was used by {caller} inside a simulated world; use trio's clock")
        if name == "sleep":
            return real(*args)
        return int(now() * 1e9) if name.endswith("_ns") else now()

    return look


def _calendar_wire(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def look(seconds: float | None = None) -> object:
        if seconds is None:
            raise TripwireError(f"time.{name} without a time was used inside a simulated world; use trio's clock")
        return real(seconds)

    return look

"""Runs a scenario under one seed, and says how it went."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog
import trio
import trio.testing
from attrs import field, frozen
from structlog.typing import Processor

from .books import Books
from .chance import Choices, seed_of, stream
from .determinism import determined, tripwires
from .scheduling import POLICIES
from .trace import Trace
from .watch import Watch
from .world import Simulation

Scenario = Callable[[Simulation], Awaitable[None]]

_FAULT = "fault in"  # so begins what the broker logs of its own bugs


class BrokerFaultError(AssertionError):
    """The broker noticed a bug of its own. It closes a connection for that, which clients heal."""


@frozen
class Kept:
    """Which choices of a run are made, the others taking their default: what a failure is shrunk to.

    Attributes:
        draw: 0 for the seed's own choices; another number for others, in which a few segments take the most time
            and the others the least. What the application draws is the same.
    """

    scheduling: Container[int] | None = None
    delays: Container[int] | None = None
    faults: Container[int] | None = None
    draw: int = 0

    @property
    def extreme(self) -> float | None:
        """How many segments take the most time: one in two, in four, in eight."""
        return 0.5 ** (self.draw % 3 + 1) if self.draw else None

    def seed_of(self, seed: int, name: str) -> int:
        """Return the seed of the stream `name`, of which this takes its draw."""
        return seed_of(seed, f"{name}/{self.draw}" if self.draw else name)


@frozen
class Outcome:
    """How one run went.

    Attributes:
        error: what failed, or None.
        digest: of the trace.
        lines: the trace's newest lines, if they were asked for.
        steps: of the scheduler.
        seconds: virtual ones.
        deliveries: copies of messages that sockets took.
        reached: {name of a `sometimes`: how often it was reached}.
        scheduling: the numbers of the scheduling choices that took other than their default.
        delays: the same of the network's.
        faults: the same of the faults.
    """

    seed: int
    policy: str
    error: BaseException | None
    digest: str
    lines: tuple[str, ...] = field(repr=False)
    steps: int
    seconds: float
    deliveries: int
    reached: dict[str, int]
    scheduling: tuple[int, ...] = field(repr=False)
    delays: tuple[int, ...] = field(repr=False)
    faults: tuple[int, ...] = field(repr=False)

    def check(self) -> None:
        """Raise what failed, if anything did."""
        __tracebackhide__ = True
        if self.error is not None:
            raise self.error


LIMIT = 3600.0  # virtual seconds that a scenario may take unless it says otherwise


def run_seed(
    scenario: Scenario, seed: int, *, policy: str = "fair", kept: Kept | None = None, limit: float = LIMIT
) -> Outcome:
    """Run `scenario` in a new world and return how it went; does not raise what the scenario raises.

    At the end all faults are healed and progress is demanded. A bug that the
    broker notices and survives fails the run, too. Must not be called from
    within a Trio run.
    """
    kept = kept or Kept()
    is_shown = kept.scheduling is not None  # the run is being shrunk: its schedule will be read
    delays = Choices(kept.seed_of(seed, "network"), kept.delays, extreme=kept.extreme)
    faults = Choices(kept.seed_of(seed, "faults"), kept.faults)
    watch, books = Watch(Trace(), limit=limit), Books()
    clock = trio.testing.MockClock(autojump_threshold=0)
    scheduling = Choices(kept.seed_of(seed, "scheduler"), kept.scheduling, clock.current_time)
    worlds: list[Simulation] = []
    seconds = 0.0

    async def main() -> None:
        nonlocal seconds
        with tripwires(clock.current_time), trio.CancelScope() as watch.scope:
            async with trio.open_nursery() as nursery:
                simulation = Simulation(seed, nursery, watch, faults, delays, books)
                worlds.append(simulation)
                await scenario(simulation)
                await simulation.settle()
                seconds = trio.current_time()
                nursery.cancel_scope.cancel()

    error: BaseException | None = None

    def note(order: str) -> None:
        watch.trace.note(clock.current_time(), order)

    def note_log(_: object, level: str, entry: MutableMapping[str, Any]) -> NoReturn:
        what = ", ".join(f"{key}={value}" for key, value in entry.items() if key not in {"event", "exc_info"})
        fault = f": {entry['exc_info']!r}" if "exc_info" in entry else ""
        watch.trace.note(clock.current_time(), f"log {level}: {entry['event']} ({what}){fault}")
        if str(entry["event"]).startswith(_FAULT):
            watch.fail(BrokerFaultError(f"{entry['event']} ({what}){fault}"))
        raise structlog.DropEvent

    with (
        determined(POLICIES[policy](scheduling), stream(seed, "entropy"), note if is_shown else None),
        books.watched(),
        _logging_to(note_log),
    ):
        try:
            trio.run(main, clock=clock, instruments=[watch])
        except Exception as raised:  # noqa: BLE001 - it is the result
            error = raised
    error = watch.error or _unwrap(error)
    world = worlds[0] if worlds else None
    return Outcome(
        seed=seed,
        policy=policy,
        error=error,
        digest=watch.trace.digest,
        lines=watch.trace.lines,
        steps=watch.steps,
        seconds=seconds,
        deliveries=0 if world is None else sum(broker.delivered for broker in world.brokers),
        reached={} if world is None else dict(world.reached),
        scheduling=tuple(scheduling.deviations),
        delays=tuple(delays.deviations),
        faults=tuple(faults.deviations),
    )


@contextmanager
def _logging_to(processor: Processor) -> Iterator[None]:
    """Let everything that is logged go to `processor` alone."""
    before = structlog.get_config()
    structlog.configure(processors=[processor], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        yield
    finally:
        structlog.configure(**before)


def _unwrap(error: BaseException | None) -> BaseException | None:
    """Return what is inside groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

"""Same seed, same run: in another process, under another hash seed; and what could break that raises."""

# ruff: noqa: SLF001 - it is about private names

from __future__ import annotations

import functools
import logging
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio_websocket import WebSocketConnection

from tercet_testing import DeadlockError, LivelockError, Simulation, StuckError, run_seed
from tercet_testing.chance import Choices, seed_of, stream
from tercet_testing.determinism import TripwireError
from tercet_testing.scheduling import POLICIES

ROOT = Path(__file__).resolve().parents[2]


async def _talk(sim: Simulation) -> None:
    """A small world: two publishers, one subscriber, one cut."""
    await sim.broker()
    await _talk_to(sim)


async def _talk_to(sim: Simulation) -> None:
    feeds = [await sim.client(f"feed{n}") for n in range(2)]
    screen = await sim.client("screen")
    async with screen.subscribe("news/#") as news, trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(feed.publish, "news/x", feed.host)
        await news.receive()
        sim.network.reset("screen")
        await news.receive()


# The names


def test_private_names_of_trio_are_where_determinism_looks_for_them() -> None:
    """Fails first when a new Trio has moved one: then determinism.py has to follow."""
    run: Any = trio._core._run
    assert isinstance(run._r, random.Random), "the generator that shuffles each scheduler pass"
    assert isinstance(run._ALLOW_DETERMINISTIC_SCHEDULING, bool), "whether a pass is sorted before it is shuffled"
    assert vars(random)["_urandom"] is os.urandom, "what random.SystemRandom reads"
    assert next(WebSocketConnection.CONNECTION_ID) >= 0, "the counter of trio-websocket's connections"

    async def look() -> Any:
        return run.GLOBAL_RUN_CONTEXT.runner.runq

    assert len(trio.run(look)) == 0, "the queue to which a task that is held back returns"


def test_scheduler_asks_the_policy() -> None:
    """The names still do what they are replaced for: another order, another trace."""
    traces = {policy: run_seed(_talk, 1, policy=policy) for policy in POLICIES}
    assert all(outcome.error is None for outcome in traces.values())
    assert all(outcome.scheduling for outcome in traces.values())
    assert len({outcome.digest for outcome in traces.values()}) == len(POLICIES)


# Same seed, other seed


@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_repeats_itself(policy: str) -> None:
    one, other = run_seed(_talk, 5, policy=policy), run_seed(_talk, 5, policy=policy)
    assert one.error is None
    assert one.lines == other.lines
    assert one.digest == other.digest


def test_hundred_seeds_leave_hundred_traces() -> None:
    outcomes = [run_seed(_talk, seed) for seed in range(100)]
    assert [outcome.error for outcome in outcomes] == [None] * 100
    assert len({outcome.digest for outcome in outcomes}) == 100


def test_same_digest_under_four_hash_seeds() -> None:
    """A chaos of everything, in four processes."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.simulation.test_chaos import test_chaos\n"
        "from tercet_testing import run_seed\n"
        "outcome = run_seed(test_chaos.simulation[0], 4, policy='starve')\n"
        "print(outcome.error, outcome.steps, outcome.digest)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(ROOT)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "1", "2024", "random")
    ]
    outputs = {process.communicate(timeout=120)[0] for process in processes}
    assert len(outputs) == 1
    (output,) = outputs
    assert output.startswith("None ")


# Streams of chance


def test_streams_of_one_seed_differ_and_repeat() -> None:
    assert len({seed_of(1, name) for name in ("scheduler", "network", "entropy", "application")}) == 4
    assert stream(1, "entropy").random() == stream(1, "entropy").random()
    assert stream(1, "entropy").random() != stream(2, "entropy").random()


def test_numbered_choice_depends_on_its_number_alone() -> None:
    """So that one of them can be undone without moving the others."""
    every, some = Choices(7), Choices(7, kept={1, 3})
    draws = [every.draw() for _ in range(5)]
    assert [some.draw() for _ in range(5)] == [None, draws[1], None, draws[3], None]
    assert len(set(draws)) == 5


def test_more_draws_of_the_application_disturb_nobody_else() -> None:
    """A hundred more draws by the scenario, and everything else happens as before."""

    async def greedy(sim: Simulation) -> None:
        for _ in range(100):
            sim.random.random()
        await _talk(sim)

    assert run_seed(_talk, 3).digest == run_seed(greedy, 3).digest


def test_another_network_disturbs_neither_application_nor_entropy() -> None:
    """Twice the latency: other times, and the same epoch and decisions."""
    seen: list[tuple[float, str]] = []

    async def scenario(sim: Simulation, factor: int) -> None:
        sim.network.default.latency = (0.001 * factor, 0.030 * factor)
        broker = await sim.broker()
        await _talk_to(sim)
        seen.append((sim.random.random(), broker.daemon.broker.epoch))

    outcomes = [run_seed(functools.partial(scenario, factor=factor), 3) for factor in (1, 2)]
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert outcomes[0].digest != outcomes[1].digest
    assert seen[0] == seen[1]


# Tripwires


def _start_thread() -> None:
    threading.Thread(target=print).start()


def _open_socket() -> None:
    socket.socket()


def _connect() -> None:
    socket.create_connection(("localhost", 1))


# Each looks the name up when it is called: what was bound before the world began is not caught.
@pytest.mark.parametrize("reach", [_start_thread, _open_socket, _connect])
def test_thread_or_socket_trips(reach: Callable[[], None]) -> None:
    async def scenario(sim: Simulation) -> None:
        reach()

    outcome = run_seed(scenario, 0)
    assert isinstance(outcome.error, TripwireError)
    assert "inside a simulated world" in str(outcome.error)


@pytest.mark.parametrize("name", ["time", "time_ns", "monotonic", "perf_counter", "sleep", "process_time"])
def test_look_at_a_real_clock_trips(name: str) -> None:
    async def scenario(sim: Simulation) -> None:
        getattr(time, name)()

    outcome = run_seed(scenario, 0)
    assert isinstance(outcome.error, TripwireError)
    assert f"time.{name} was used by {__name__} inside a simulated world" in str(outcome.error)


@pytest.mark.parametrize("name", ["localtime", "gmtime", "ctime"])
def test_calendar_trips_unless_it_is_told_the_time(name: str) -> None:
    async def told(sim: Simulation) -> None:
        getattr(time, name)(sim.now)

    async def asks(sim: Simulation) -> None:
        getattr(time, name)()

    assert run_seed(told, 0).error is None
    assert isinstance(run_seed(asks, 0).error, TripwireError)


def test_entropy_of_the_system_comes_from_the_seed() -> None:
    """So do tokens and identifiers that are made of it."""
    drawn: list[tuple[str, str, bytes]] = []

    async def scenario(sim: Simulation) -> None:
        drawn.append((str(uuid.uuid4()), secrets.token_hex(), os.urandom(4)))

    for seed in (1, 1, 2):
        assert run_seed(scenario, seed).error is None
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[1], drawn[2], strict=True))


@pytest.mark.parametrize("name", ["random", "choice", "shuffle", "getrandbits", "uniform"])
def test_draw_from_the_hidden_generator_trips(name: str) -> None:
    async def scenario(sim: Simulation) -> None:
        getattr(random, name)()

    assert isinstance(run_seed(scenario, 0).error, TripwireError)


def test_world_is_as_before_after_a_run() -> None:
    state = random.getstate()
    before = (time.time, random.random, socket.socket, os.urandom, threading.Thread.start)
    run_seed(_talk, 0)
    assert (time.time, random.random, socket.socket, os.urandom, threading.Thread.start) == before
    assert random.getstate() == state


def test_own_generators_and_logs_are_free() -> None:
    """A generator of one's own is determined; logging asks for the time, and is answered with the world's."""

    async def scenario(sim: Simulation) -> None:
        await sim.sleep(1.5)
        assert 0 <= random.Random(1).random() < 1
        structlog.get_logger("application").warning("something", count=3)

    outcome = run_seed(scenario, 0)
    assert outcome.error is None
    assert [line for line in outcome.lines if "log warning" in line] == ["1.500000 log warning: something (count=3)"]


def test_standard_logging_works_in_the_world(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.sleep(2)
        logging.getLogger("application").warning("something")

    assert run_seed(scenario, 0).error is None
    assert caplog.messages == ["something"]


# When nothing happens any more, and when nothing ends


async def _wait_for_nobody(sim: Simulation) -> None:
    await sim.sleep(1)
    await trio.Event().wait()


async def _wait_for_each_other(sim: Simulation) -> None:
    one, other = trio.Event(), trio.Event()

    async def first() -> None:
        await one.wait()
        other.set()

    async def second() -> None:
        await other.wait()
        one.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        nursery.start_soon(second)


@pytest.mark.parametrize("scenario", [_wait_for_nobody, _wait_for_each_other])
def test_deadlock_is_reported_at_once(scenario: Callable[[Simulation], Awaitable[None]]) -> None:
    """With where each task waits."""
    began = time.monotonic()
    outcome = run_seed(scenario, 0)
    assert isinstance(outcome.error, DeadlockError)
    assert f"{scenario.__name__}" in str(outcome.error)
    assert time.monotonic() - began < 5
    assert outcome.steps < 100


def test_livelock_is_reported_as_such() -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.sleep(1)
        while True:
            await trio.lowlevel.checkpoint()

    outcome = run_seed(scenario, 0)
    assert isinstance(outcome.error, LivelockError)
    assert "it is still 1.000" in str(outcome.error)


def test_patience_is_no_deadlock() -> None:
    """Whoever waits with a deadline, however far, is waited for."""

    async def scenario(sim: Simulation) -> None:
        with trio.move_on_after(30_000):
            await trio.Event().wait()
        assert sim.now == 30_000

    assert run_seed(scenario, 0, limit=40_000).error is None


def test_scenario_that_never_ends_is_reported_as_stuck() -> None:
    """Time moves on, and nothing comes of it."""

    async def scenario(sim: Simulation) -> None:
        while True:
            await sim.sleep(1000)

    outcome = run_seed(scenario, 0)
    assert isinstance(outcome.error, StuckError)
    assert "scenario" in str(outcome.error)

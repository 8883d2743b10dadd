"""`tercet simulate`: many seeds of a file's scenarios, on several processors, without pytest."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import multiprocessing
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from attrs import define, field, frozen

from .running import Scenario
from .scheduling import POLICIES
from .suite import Suite, Totals
from .world import NeverReachedError, Simulation

_CHUNK = 20  # seeds that a process gets at a time
_FAILED = 1
_COUNT = click.IntRange(min=1)
_SEED = click.IntRange(min=0)


@frozen
class _Job:
    """Some seeds of one scenario, for another process."""

    path: Path
    scenario: str
    seeds: range
    policies: tuple[str, ...]
    traces: Path
    is_replay: bool


@frozen
class _Done:
    """What became of a job: its totals, or the report of the first failure; and what the run that matters printed."""

    totals: Totals
    failure: str | None
    printed: str = ""


@define(eq=False)
class _Quiet:
    """A scenario whose runs print into memory: a thousand that pass are of no interest."""

    scenario: Scenario
    _out: io.StringIO = field(factory=io.StringIO)

    async def __call__(self, simulation: Simulation) -> None:
        """Run it, and keep what it prints."""
        self._out = io.StringIO()
        with contextlib.redirect_stdout(self._out), contextlib.redirect_stderr(self._out):
            await self.scenario(simulation)

    @property
    def printed(self) -> str:
        """What the newest run printed."""
        return self._out.getvalue()


def _load(path: Path) -> ModuleType:
    """Import a file as pytest does: it finds what lies beside it (or beside its package), and in the working directory.

    Raises:
        ClickException: it cannot be imported; says why, with the frames from the file on.
    """
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    for folder in (str(Path.cwd()), str(root)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise click.ClickException(_say_import(path, error)) from error
    return module


def _say_import(path: Path, error: Exception) -> str:
    """Return why a file cannot be imported, and where: not the frames that lead to it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", __file__))
    ]
    what = "".join(traceback.format_exception_only(error)).strip()
    return f"{path} cannot be imported: {what}\n" + "".join(traceback.format_list(frames)).rstrip()


def _scenarios(module: ModuleType) -> dict[str, Any]:
    """Return {name: decorated test} of what `@simulate` decorates in a module."""
    return {
        name: thing for name, thing in vars(module).items() if isinstance(getattr(thing, "simulation", None), tuple)
    }


def _suite(job: _Job) -> tuple[Suite, _Quiet]:
    test = _scenarios(_load(job.path))[job.scenario]
    scenario, _, policies, _, limit = test.simulation

    def replay(seed: int, policy: str) -> str:
        return f"tercet simulate {shlex.quote(str(job.path))} --only {job.scenario} --seed {seed} --policy {policy}"

    quiet = _Quiet(scenario)
    return Suite(
        job.scenario, quiet, policies=job.policies or policies, replay=replay, traces=job.traces, limit=limit
    ), quiet


def _run(job: _Job) -> _Done:
    suite, quiet = _suite(job)
    totals, passing = Totals(), None
    for seed in job.seeds:
        if job.is_replay:
            outcome, report = suite.replay_and_report(seed)
            return _Done(totals.plus(outcome), report, quiet.printed)
        outcome = suite.run_one(seed)
        totals = totals.plus(outcome)
        if outcome.error is not None:
            printed = quiet.printed  # before it is shrunk, which takes many more runs
            return _Done(totals, suite.report(outcome, passing), printed)
        passing = outcome
    return _Done(totals, None)


def _add(one: Totals, other: Totals) -> Totals:
    reached = {name: one.reached.get(name, 0) + other.reached.get(name, 0) for name in {**one.reached, **other.reached}}
    return Totals(
        one.runs + other.runs,
        one.steps + other.steps,
        one.seconds + other.seconds,
        one.deliveries + other.deliveries,
        reached,
    )


@click.command("simulate")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seeds", type=_COUNT, default=1000, show_default=True, help="How many seeds, from --first on.")
@click.option("--first", type=_SEED, default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=_SEED, help="Just this seed, once; a failure is not shrunk.")
@click.option("--only", help="Just the scenario of this name.")
@click.option("--policy", type=click.Choice(list(POLICIES)), help="Just this scheduling policy.")
@click.option("--jobs", type=_COUNT, default=1, show_default=True, help="Processes.")
@click.option("--traces", type=click.Path(path_type=Path), default=Path(".sim-traces"), show_default=True)
def simulate_command(  # noqa: PLR0913 - one parameter an option
    path: Path,
    *,
    seeds: int,
    first: int,
    seed: int | None,
    only: str | None,
    policy: str | None,
    jobs: int,
    traces: Path,
) -> int:
    """Run the scenarios of PATH, functions decorated with @simulate, under many seeds.

    Ends with 0 if all passed, and with 1 at the first failure of a scenario,
    which is shrunk and reported; with several jobs it is the one of the lowest
    seed. What a scenario prints is shown for the run that failed, or that was
    asked for with --seed. A scenario imports what lies beside its file, and in
    the working directory.

    \b
      tercet simulate scenarios.py --seeds 1000 --jobs 2
      tercet simulate scenarios.py --only test_partition --seed 17
    """  # noqa: D301 - \b is click's
    chosen = range(first, first + seeds) if seed is None else range(seed, seed + 1)
    found = _scenarios(_load(path))
    names = [only] if only else list(found)
    if not names or any(name not in found for name in names):
        raise click.UsageError(f"{path} has no scenario {only or '(nothing is decorated with @simulate)'}")
    policies = (policy,) if policy else ()
    code = 0
    for name in names:
        todo = [
            _Job(path, name, chosen[at : at + _CHUNK], policies, traces, is_replay=seed is not None)
            for at in range(0, len(chosen), _CHUNK)
        ]
        began = time.perf_counter()
        totals, failure = _run_jobs(todo, jobs, name, len(chosen))
        if failure is None and seed is None:
            failure = _never_reached(found[name], name, totals)
        click.echo(_summary(name, totals, time.perf_counter() - began, failed=failure is not None))
        if failure is not None:
            click.echo(failure, err=True)
            code = _FAILED
    return code


def _never_reached(test: Any, name: str, totals: Totals) -> str | None:
    scenario, _, _, sometimes, _ = test.simulation
    try:
        Suite(name, scenario, sometimes=sometimes).check_reached(totals)
    except NeverReachedError as error:
        return str(error)
    return None


def _run_jobs(todo: Sequence[_Job], jobs: int, name: str, count: int) -> tuple[Totals, str | None]:
    from rich import progress as rich  # noqa: PLC0415 - half of this command's start
    from rich.console import Console  # noqa: PLC0415

    totals = Totals()
    with rich.Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=count)
        for done in _results(todo, jobs):
            totals = _add(totals, done.totals)
            bar.update(task, completed=totals.runs)
            if done.printed:
                bar.stop()
                click.echo(done.printed, nl=not done.printed.endswith("\n"))
            if done.failure is not None:
                return totals, done.failure
    return totals, None


def _results(todo: Sequence[_Job], jobs: int) -> Iterator[_Done]:
    """Yield what becomes of the jobs, in their order: the first that failed has the lowest seed."""
    if jobs == 1:
        yield from map(_run, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            yield from (future.result() for future in [pool.submit(_run, job) for job in todo])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _summary(name: str, totals: Totals, seconds: float, *, failed: bool) -> str:
    reached = ", ".join(f"{what} in {count}" for what, count in sorted(totals.reached.items()))
    rate = max(seconds, 1e-9)
    return (
        f"{'FAILED' if failed else 'passed'}  {name}: {totals.runs} runs in {seconds:.1f} s "
        f"({totals.seconds / rate:,.0f} virtual seconds, {totals.deliveries / rate:,.0f} deliveries and "
        f"{totals.steps / rate:,.0f} steps a second)" + (f"; {reached}" if reached else "")
    )

"""Measure Tercet beside other brokers.

python -m tests.benchmarks --help
"""

from __future__ import annotations

import fnmatch
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .bars import BARS
from .cores import choose_cores
from .document import DocumentError, document
from .figures import FIGURES
from .measuring import Pace
from .plot import PlotError
from .plot import plot as draw
from .results import Results, Sample, describe
from .rounds import Plan, all_peers, run_rounds
from .smoke import SMOKE_PACE, SMOKE_PEERS, SMOKE_WORKS
from .tables import bar_table, remarks, result_tables
from .works import BAR_GROUPS, GROUPS, WORKS, Work

_FILE = click.Path(path_type=Path, dir_okay=False)
_WIDTH = 170  # of tables that go into a file
_DEFAULT_OUTPUT = Path(tempfile.gettempdir()) / "tercet-benchmark.json"


class _Console(Console):
    """Standard output, as wide as a terminal or as a table needs."""

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, soft_wrap=False)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--smoke", is_flag=True, help="The same as the command smoke.")
@click.pass_context
def main(context: click.Context, *, smoke: bool) -> None:
    """Measure Tercet beside other brokers, one core each, over loopback.

    \b
    Examples:
      python -m tests.benchmarks run                    what the bars need, 5 rounds
      python -m tests.benchmarks run 1-100 --rounds 3   one work
      python -m tests.benchmarks run all -o all.json
      python -m tests.benchmarks run fanout -p tercet --before ../old
      python -m tests.benchmarks show all.json --bars
      python -m tests.benchmarks plot all.json docs/fanout.svg
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that brokers are ended
    if smoke:
        context.invoke(smoke_command)
    elif context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.argument("names", nargs=-1, metavar="[WORK]...")
@click.option("--rounds", "-r", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", "-s", default=2.0, show_default=True, type=click.FloatRange(0.1, 60), help="Each measured.")
@click.option("--warm-up", default=0.5, show_default=True, type=click.FloatRange(0.1, 60), help="Seconds before.")
@click.option("--peer", "-p", "only", multiple=True, help="Only this one. May be repeated.")
@click.option(
    "--before",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Another checkout, whose Tercet is measured too.",
)
@click.option("--output", "-o", default=_DEFAULT_OUTPUT, show_default=True, type=_FILE, help="JSON file to write.")
@click.option("--bars", is_flag=True, help="Also say which bars are passed.")
@click.option("--broker-core", type=int, help="Core for the broker.  [default: the first]")
@click.option("--load-core", type=int, help="Core for the load.  [default: the next]")
def run(
    *,
    names: Sequence[str],
    rounds: int,
    seconds: float,
    warm_up: float,
    only: Sequence[str],
    before: Path | None,
    output: Path,
    bars: bool,
    broker_core: int | None,
    load_core: int | None,
) -> None:
    """Measure each WORK: a name, a pattern, a group, "bars" (which is the default) or "all".

    The command list shows them. A peer that is not installed is named and
    left out. The file is written after every measurement, so Ctrl-C keeps
    what there is.
    """
    peers = all_peers(before)
    unknown = [name for name in only if name not in peers]
    if unknown:
        raise click.BadParameter(f"{unknown[0]} is none of {', '.join(peers)}", param_hint="--peer")
    chosen = {name: peer for name, peer in peers.items() if not only or name in {*only, "before"}}
    _raise_descriptor_limit()
    plan = Plan(_choose(names), chosen, rounds, Pace(seconds, warm_up), choose_cores(broker_core, load_core))
    results = describe(chosen, rounds, seconds)
    _carry_out(plan, results, output)
    _report(results, bars=bars)
    click.echo(f"written to {output}", err=True)
    sys.exit(1 if results.errors() else 0)


def _choose(names: Sequence[str]) -> list[Work]:
    """Return the works that are meant, in the order of the table."""
    wanted: set[str] = set()
    for name in names or ["bars"]:
        groups = {"bars": BAR_GROUPS, "all": GROUPS}.get(name, (name,))
        found = {work.name for work in WORKS if work.group in groups or fnmatch.fnmatchcase(work.name, name)}
        if not found:
            raise click.BadParameter(f"no work is called {name!r}; see the command list", param_hint="WORK")
        wanted |= found
    return [work for work in WORKS if work.name in wanted]


def _raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one; brokers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _carry_out(plan: Plan, results: Results, output: Path | None) -> None:
    if not plan.cores.are_two:
        click.echo("there is one core: the load takes the broker's time", err=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Drawn between measurements only: a thread that draws would take the load's time.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("measuring", total=plan.measurements)

        def done(sample: Sample) -> None:
            first = next(iter(sample.figures), None)
            value = sample.error or (f"{sample.figures[first]:.2f} {FIGURES[first].unit}" if first else "")
            progress.update(task, advance=1, description=f"{sample.work} {sample.peer} {value}"[:60])
            progress.refresh()
            if output is not None:
                results.save(output)

        try:
            run_rounds(plan, results, done)
        except KeyboardInterrupt:
            click.echo("interrupted; this is what there is", err=True)


def _report(results: Results, *, bars: bool) -> None:
    console = _Console()
    for table in result_tables(results):
        console.print(table)
    if bars:
        console.print(bar_table(results))
    console.print("; ".join(dict.fromkeys(results.versions.values())), style="dim")
    console.print("; ".join(f"{key} {value}" for key, value in results.circumstances.items()), style="dim")
    for remark in remarks(results):
        console.print(remark, markup=False)


@main.command("smoke")
def smoke_command() -> None:
    """Try everything at tiny sizes: whether it works and loses nothing, not how fast it is."""
    _raise_descriptor_limit()
    peers = {name: peer for name, peer in all_peers().items() if name in SMOKE_PEERS}
    plan = Plan(SMOKE_WORKS, peers, 1, SMOKE_PACE, choose_cores())
    results = describe(peers, 1, SMOKE_PACE.seconds)
    _carry_out(plan, results, None)
    _report(results, bars=False)
    if results.errors() or len(results.samples) != plan.measurements:
        sys.exit(1)


@main.command()
@click.argument("file", type=_FILE)
@click.option("--bars", is_flag=True, help="Only the bars, and fail if one is not passed.")
def show(*, file: Path, bars: bool) -> None:
    """Show the tables of a FILE that was written by run."""
    results = _load(file)
    if not bars:
        _report(results, bars=True)
        return
    _Console().print(bar_table(results))
    sys.exit(0 if all(spread.median <= bar.limit for bar in BARS if (spread := bar.spread(results))) else 1)


@main.command("plot")
@click.argument("file", type=_FILE)
@click.argument("picture", type=_FILE)
def plot_command(*, file: Path, picture: Path) -> None:
    """Draw the fan-outs of a FILE into PICTURE (.svg, .png)."""
    try:
        draw(_load(file), picture)
    except PlotError as error:
        raise click.ClickException(str(error)) from error


@main.command("document")
@click.argument("files", metavar="FILE...", type=_FILE, nargs=-1, required=True)
@click.argument("page", type=_FILE)
def document_command(*, files: tuple[Path, ...], page: Path) -> None:
    """Write the tables of each FILE into PAGE, between its two comments.

    A work that is in several is taken from the last one.
    """
    try:
        document([_load(file) for file in files], page)
    except (OSError, DocumentError) as error:
        raise click.ClickException(str(error)) from error


def _load(file: Path) -> Results:
    try:
        return Results.load(file)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@main.command("list")
def list_works() -> None:
    """List the works."""
    for group in GROUPS:
        click.echo(group)
        for work in WORKS:
            if work.group == group:
                click.echo(f"  {work.name:14} {work.describe()}")


if __name__ == "__main__":
    main(prog_name="python -m tests.benchmarks")

"""Let a crowd come and go at a daemon for a long time, and see whether anything grows.

python -m tests.soak --minutes 30 --connections 2000
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
from collections import Counter
from typing import Any

import click
import trio
from attrs import define, field

from .crowd import Crowd

WARM_UP = 6  # minutes: until logs, keys and the allocator have reached their size
MAX_SLOPE = 200.0  # KiB a minute
_DESCRIPTORS_BESIDE = 200
_QUIET = 60.0  # seconds within which everything has to be back where it was

COLUMNS = (
    "minute",
    "RSS KiB",
    "heap KiB",
    "gaps KiB",
    "blocks",
    "tasks",
    "descriptors",
    "connections",
    "published",
    "delivered",
    "dropped",
    "queued",
)


def slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of the straight line that fits best."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


@define(eq=False)
class Soak:
    """One run."""

    process: trio.Process
    counts: Counter[str] = field(factory=Counter)
    samples: list[tuple[float, float]] = field(factory=list)  # (minute, RSS in KiB)
    problems: list[str] = field(factory=list)
    _buffer: bytearray = field(factory=bytearray)

    async def line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            data = await self.process.stdout.receive_some(65536)
            if not data:
                raise click.ClickException("the daemon has ended")
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line.decode()

    async def look(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")
        found: dict[str, Any] = json.loads(await self.line())
        if not found["balanced"]:
            self.problems.append("the accounting does not add up")
        return found

    async def run(self, minutes: float, connections: int, seed: int) -> None:
        port = int((await self.line()).rpartition(":")[2])
        before = await self.look()
        crowd = Crowd(port, connections, random.Random(seed), self.counts)
        stopping = trio.Event()
        click.echo("| " + " | ".join(COLUMNS) + " |\n|" + "---:|" * len(COLUMNS))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run, stopping)
            began, minute = trio.current_time(), 0.0
            while minute < minutes:
                minute = min(minute + 1, minutes)
                await trio.sleep_until(began + 60 * minute)
                found = await self.look()
                self.samples.append((minute, found["rss"] / 1024))
                self._row(f"{minute:g}", found)
            stopping.set()
        self._judge(before, await self._settle(before))

    def _row(self, minute: str, found: dict[str, Any]) -> None:
        names = ("blocks", "tasks", "descriptors", "connections", "published", "delivered", "dropped", "queued")
        click.echo(
            f"| {minute} | "
            + "".join(f"{found[name] // 1024:,} | " for name in ("rss", "heap", "gaps"))
            + " | ".join(f"{found[name]:,}" for name in names)
            + " |"
        )

    async def _settle(self, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until nobody is left, as long as that may take."""
        names = ("tasks", "descriptors", "sessions", "connections", "handshakes", "queued", "subscribers")
        found = await self.look()
        with trio.move_on_after(_QUIET):
            while any(found[name] > before[name] for name in names):
                await trio.sleep(1)
                found = await self.look()
        self._row("end", found)
        for name in names:
            if found[name] > before[name]:
                self.problems.append(f"{name}: {found[name]}, and {before[name]} before")
        return found

    def _judge(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        warm = [sample for sample in self.samples if sample[0] > WARM_UP]
        if len(warm) >= 3:
            per_minute = slope(warm)
            click.echo(f"\nRSS after minute {WARM_UP}: {per_minute:+.1f} KiB a minute over {len(warm)} samples")
            if per_minute > MAX_SLOPE:
                self.problems.append(f"memory grows by {per_minute:.0f} KiB a minute")
        click.echo(
            f"offered {after['offered']:,} = delivered {after['delivered']:,} + conflated {after['conflated']:,}"
            f" + dropped {after['dropped']:,} + queued {after['queued']:,}"
        )
        click.echo(
            f"tasks {before['tasks']} -> {after['tasks']}, descriptors {before['descriptors']} -> "
            f"{after['descriptors']}, connections accepted {after['accepted']:,}"
        )
        if after["offered"] != sum(after[name] for name in ("delivered", "conflated", "dropped", "queued")):
            self.problems.append("the accounting is not exact")
        for name in ("lost", "repeated", "refused"):
            if self.counts[name]:
                self.problems.append(f"{name}: {self.counts[name]}")
        click.echo("the crowd: " + ", ".join(f"{name} {count:,}" for name, count in sorted(self.counts.items())))


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=30.0, show_default=True)
@click.option("--connections", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(minutes: float, connections: int, seed: int) -> None:
    """Print a line a minute and a verdict; the exit code is 1 if something grew, leaked or was lost."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = min(most, connections + _DESCRIPTORS_BESIDE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))

    async def soak() -> list[str]:
        command = [sys.executable, "-m", "tests.soak.server"]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        one = Soak(process)
        try:
            await one.run(minutes, connections, seed)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await process.wait()
        return one.problems

    problems = trio.run(soak)
    for problem in dict.fromkeys(problems):
        click.echo(f"PROBLEM: {problem}")
    click.echo("failed" if problems else "passed")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

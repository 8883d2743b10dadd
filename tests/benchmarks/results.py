"""The results: samples of all rounds, medians over them, ratios within them, and the file they are kept in."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from .figures import Figures
from .peer import Peer


@frozen
class Sample:
    """One broker at one work in one round; no figures if it failed."""

    work: str
    peer: str
    round: int
    figures: Figures
    error: str | None = None


@frozen
class Spread:
    """What several rounds make of one figure."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return None for no values."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@define(eq=False)
class Results:
    """All samples of a run.

    Attributes:
        circumstances: {what: where and how it was measured}.
        versions: {peer: what was measured}.
        missing: {peer: why it was left out}.
    """

    circumstances: dict[str, str] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)
    missing: dict[str, str] = field(factory=dict)
    samples: list[Sample] = field(factory=list)

    def works(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.work for sample in self.samples))

    def errors(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error]

    def by_round(self, work: str, peer: str, figure: str) -> dict[int, float]:
        """Return {round: value}."""
        return {
            sample.round: sample.figures[figure]
            for sample in self.samples
            if (sample.work, sample.peer) == (work, peer) and figure in sample.figures
        }

    def spread(self, work: str, peer: str, figure: str) -> Spread | None:
        return Spread.of(list(self.by_round(work, peer, figure).values()))

    def ratio(self, figure: str, above: tuple[str, str], below: tuple[str, str]) -> Spread | None:
        """Return the ratio of two (work, peer), taken within each round."""
        divisors = self.by_round(*below, figure)
        return Spread.of([
            value / divisors[number]
            for number, value in self.by_round(*above, figure).items()
            if divisors.get(number)
        ])  # fmt: skip

    @classmethod
    def joined(cls, runs: Sequence[Results]) -> Results:
        """Return what several runs have measured; a work that was measured again is taken from the last of them.

        Circumstances differ, so there are none.
        """
        last = {work: run for run in runs for work in run.works()}
        return cls(
            versions={name: version for run in runs for name, version in run.versions.items()},
            missing={name: why for run in runs for name, why in run.missing.items()},
            samples=[sample for work, run in last.items() for sample in run.samples if sample.work == work],
        )

    def save(self, path: Path) -> None:
        """Write a JSON file; it is whole at any moment."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(json.dumps(asdict(self), indent=1) + "\n")
        beside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read it again.

        Raises:
            OSError, ValueError: it is no such file.
        """
        data: dict[str, Any] = json.loads(path.read_text())
        try:
            samples = [Sample(**sample) for sample in data.pop("samples")]
            return cls(**data, samples=samples)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no results of a benchmark") from error


def describe(peers: Mapping[str, Peer], rounds: int, seconds: float) -> Results:
    """Return empty results that know their circumstances."""
    present = {name: peer for name, peer in peers.items() if peer.missing is None}
    return Results(
        circumstances={
            "date": time.strftime("%Y-%m-%d"),
            "rounds": str(rounds),
            "seconds": f"{seconds:g}",
            "python": platform.python_version(),
            "kernel": platform.release().partition("-")[0],
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "revision": _revision(),
        },
        versions={name: peer.version() for name, peer in present.items()},
        missing={name: peer.missing for name, peer in peers.items() if peer.missing is not None},
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    """Return the commit of the checkout, with a plus sign if it was changed since."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return shown.stdout.strip() or "unknown"

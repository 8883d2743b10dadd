"""Hold every product module to a floor of coverage by its own tests.

Lines and branches count, and only those that ran while modules were imported
or in the module's own tests: tests/core for tercet_broker.core and so on. A
core that only the integration tests run through is not tested.
(tests/conftest.py tells coverage which folder's tests are running.)
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

FLOOR = 90.0  # percent of lines and branches

# (files, the folders of tests/ that are their own); the first match counts.
OWN_TESTS = (
    ("tercet_protocol/", ("protocol",)),
    ("tercet_broker/core/", ("core",)),
    ("tercet_broker/runtime/address", ("config",)),
    ("tercet_broker/runtime/", ("runtime", "integration")),
    ("tercet_broker/config", ("config",)),
    ("tercet_broker/cli", ("cli",)),
    ("tercet_broker/", ("runtime", "config", "cli", "integration")),
    ("tercet/", ("client",)),
)

# {file: (its floor, why)}
EXCEPTIONS: dict[str, tuple[float, str]] = {}

ROOTS = ("broker", "clients/python")


def modules() -> list[str]:
    """Return every product module, as in `tercet_broker/core/log.py`; measured or not."""
    found = []
    for root in ROOTS:
        for path in Path(root).rglob("*.py"):
            name = path.relative_to(root).as_posix()
            if any(name.startswith(prefix) for prefix, _ in OWN_TESTS) and path.stat().st_size:
                found.append(name)
    return sorted(found)


def own_tests(name: str) -> tuple[str, ...]:
    """Return the folders of tests/ whose tests count for a module."""
    return next(folders for prefix, folders in OWN_TESTS if name.startswith(prefix))


def percentages(folders: tuple[str, ...]) -> dict[str, float]:
    """Return {module: percent}, as far as imports and the tests in `folders` ran it."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        measured = Coverage()
        measured.load()
        try:
            measured.json_report(outfile=str(report), contexts=["^$", f"^({'|'.join(folders)})$"])
        except NoDataError:
            return {}
        files = json.loads(report.read_text())["files"]
    return {
        name.removeprefix(f"{root}/"): entry["summary"]["percent_covered"]
        for name, entry in files.items()
        for root in ROOTS
        if name.startswith(f"{root}/")
    }


def main() -> int:
    """Print a table of what is below its floor, and return the exit code."""
    by_folders: dict[tuple[str, ...], dict[str, float]] = {}  # {folders: {module: percent}}
    below, stale = [], []
    names = modules()
    for name in names:
        folders = own_tests(name)
        if folders not in by_folders:
            by_folders[folders] = percentages(folders)
        percent = by_folders[folders].get(name, 0.0)
        floor, why = EXCEPTIONS.get(name, (FLOOR, ""))
        if percent < floor:
            below.append(f"{percent:6.1f} %  {name}  (floor {floor:.0f} %, tests/{{{','.join(folders)}}})")
        elif why and percent >= FLOOR:
            stale.append(f"{percent:6.1f} %  {name} needs no exception any more ({why})")
    stale += [f"{name} does not exist, but has an exception" for name in EXCEPTIONS if name not in names]
    print(f"{len(names)} modules, {len(below)} below their floor, {len(stale)} stale exceptions")
    for line in below + stale:
        print(line)
    return 1 if below or stale else 0


if __name__ == "__main__":
    sys.exit(main())

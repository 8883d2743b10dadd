"""The same seed in other processes: whether it needs this one's hash seed to leave the same trace.

The order of a set of strings depends on `PYTHONHASHSEED`, which is another in
each process unless it is set, and cannot be asked for. No seed of ours reaches
it. So a failure is repeated in a few processes whose hash seeds are known.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_MODULES = {"pytest": "pytest", "tercet": "tercet_broker"}  # {program: what `python -m` calls it}
_TRACES = {"pytest": "--sim-traces", "tercet": "--traces"}  # {program: its option for the folder of traces}
_HASH_SEEDS = ("0", "1", "2")  # two may agree by chance on the order of a small set
_PATIENCE = 60.0  # real seconds
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_ENDED = (0, 1)  # exit codes of a run that passed or failed


def replay_lines(command: str, trace: Sequence[str]) -> list[str]:
    """Return the command that repeats a failure, with the hash seed if it needs one, and what there is to say of that.

    Runs `command`, one of `pytest` or `tercet simulate`, in other processes;
    any other is returned as it is.
    """
    lines = [f"replay it:  {command}"]
    traces = _traces_elsewhere(shlex.split(command))
    mine = _comparable("\n".join(trace) + "\n")
    if all(other == mine for other in traces.values()):
        return lines
    own = os.environ.get("PYTHONHASHSEED", "")
    failing = own if own.isdigit() else next((name for name, other in traces.items() if other), None)
    said = "    in another process it leaves another trace: does it iterate a set of strings? Sort it"
    if failing is None:
        return [*lines, f"{said}; no replay fails, but all agree if PYTHONHASHSEED is set for all"]
    return [f"replay it:  PYTHONHASHSEED={failing} {command}", said]


def _traces_elsewhere(words: Sequence[str]) -> dict[str, str]:
    """Return {hash seed: the trace of the failure, or "" if it passed} of the processes that ended as they should."""
    program = words[0] if words else ""
    if program not in _MODULES:
        return {}
    traces = {}
    with tempfile.TemporaryDirectory() as folder:
        started = {seed: _start(program, words[1:], seed, Path(folder, seed)) for seed in _HASH_SEEDS}
        for seed, process in started.items():
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                continue
            written = list(Path(folder, seed).glob("*.trace"))
            if code in _ENDED and bool(written) is bool(code):
                traces[seed] = _comparable(written[0].read_text()) if written else ""
    return traces


def _start(program: str, words: Sequence[str], hash_seed: str, traces: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    cache = ["-p", "no:cacheprovider"] if program == "pytest" else []
    return subprocess.Popen(  # noqa: S603 - what the reader would run, in the same place
        [sys.executable, "-m", _MODULES[program], *cache, *words, _TRACES[program], str(traces)],
        env={**environment, "PYTHONHASHSEED": hash_seed},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _comparable(trace: str) -> str:
    """Return a trace without addresses, which are others in each process."""
    return _ADDRESS.sub("0x", trace)

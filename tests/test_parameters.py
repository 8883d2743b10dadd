"""Clock, entropy, listeners and dial are parameters: only what makes their defaults touches the real world.

`tercet_testing` replaces those parameters and nothing else, so a module that
looked at a clock by another way would behave differently in each replay. Trio's
own clock and nurseries are no exception to this: the run decides what they are.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import tercet
from tercet_broker.runtime import Daemon

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    ROOT / "broker" / "tercet_protocol",
    ROOT / "broker" / "tercet_broker",
    ROOT / "clients" / "python" / "tercet",
)
MODULES = {path.relative_to(folder.parent).as_posix(): path for folder in PACKAGES for path in folder.rglob("*.py")}

# What begins with one of these is the real world. Of `random`, the class is a type of parameters; see `_uses`.
WORLD = (
    *("time", "datetime", "secrets", "uuid", "random", "tempfile"),
    *("socket", "select", "selectors", "signal", "subprocess"),
    *("threading", "multiprocessing", "concurrent", "asyncio", "queue"),
    *("os.urandom", "os.getrandom", "os.getpid", "os.times", "os.read", "os.write", "os.open"),
    *("importlib.import_module", "__import__", "open", "id", "hash"),
    *("trio.run", "trio.socket", "trio.SocketStream", "trio.SocketListener", "trio.open_signal_receiver"),
    *("trio.open_tcp_stream", "trio.open_tcp_listeners", "trio.serve_tcp", "trio.open_unix_socket"),
    *("trio.open_ssl_over_tcp_stream", "trio.open_ssl_over_tcp_listeners", "trio.serve_ssl_over_tcp"),
    *("trio.to_thread", "trio.from_thread", "trio.open_file", "trio.Path", "trio.run_process"),
    *("trio.lowlevel.wait_readable", "trio.lowlevel.wait_writable", "trio.lowlevel.notify_closing"),
    *("trio.lowlevel.open_process", "trio.lowlevel.start_thread_soon", "trio.lowlevel.start_guest_run"),
    *("trio_websocket.open_websocket", "trio_websocket.open_websocket_url", "trio_websocket.connect_websocket"),
    *("trio_websocket.connect_websocket_url", "trio_websocket.serve_websocket"),
    # And our own defaults: whoever uses them cannot be given others.
    *("SystemClock", "system_entropy", "open_listeners"),
)

BUILTINS = frozenset({"__import__", "open", "id", "hash"})  # counted where they are called, not as names of fields

# {module or folder: (what it may use, why)}. Everything else is given what it needs.
MAY: dict[str, tuple[frozenset[str], str]] = {}


def _may(module: str, *names: str, why: str) -> None:
    MAY[module] = (frozenset(names), why)


_may("tercet_broker/cli/", *WORLD, why="it is the process: its terminal, its pipes, and the run itself")
_may("tercet_broker/runtime/key_set.py", "time", why="the default of `Daemon.fetch`, which runs in a thread")
_may("tercet_broker/runtime/offload.py", "trio.to_thread", why="the default of `Daemon.offload`")
_may(
    "tercet_broker/certificates.py",
    "open",
    "os.getpid",
    "os.open",
    why="it writes files, for a command without a broker",
)
_may("tercet_broker/runtime/clock.py", "random", "time", why="the defaults of `clock` and `entropy`")
_may(
    "tercet_broker/runtime/daemon.py",
    *("SystemClock", "system_entropy", "open_listeners"),
    why="has the parameters, and their defaults",
)
_may("tercet_broker/runtime/memory.py", "open", why="looked at by `Daemon` with its default of `listeners` alone")
_may(
    "tercet_broker/runtime/service_manager.py",
    *("os.getpid", "socket", "time"),
    why="likewise: what the environment of the process says",
)
_may(
    "tercet_broker/runtime/listeners.py",
    *("socket", "trio.socket", "trio.lowlevel.notify_closing", "trio.lowlevel.wait_readable"),
    why="the default of `listeners`",
)
_may(
    "tercet_broker/runtime/wire.py",
    *("socket", "trio.lowlevel.notify_closing", "trio.lowlevel.wait_readable", "trio.lowlevel.wait_writable"),
    why="the sockets that the default of `listeners` accepts",
)
_may(
    "tercet_broker/runtime/signals.py", "signal", "trio.open_signal_receiver", why="only on `Daemon.run(signals=True)`"
)
_may(
    "tercet/_address.py",
    *("trio.open_ssl_over_tcp_stream", "trio.open_tcp_stream", "trio.open_unix_socket"),
    why="the default of `dial`",
)
_may("tercet/_client.py", "random", why="the default of `entropy`")


def _names(tree: ast.AST) -> dict[str, str]:
    """Return {name in this module: the dotted name that an import gave it}; our own modules' names stay as they are."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            prefix = "" if node.level or node.module is None else f"{node.module}."
            found.update({alias.asname or alias.name: f"{prefix}{alias.name}" for alias in node.names})
    return found


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    """Return the dotted name that an expression like `trio.lowlevel.checkpoint` stands for."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        value = _dotted(node.value, names)
        return None if value is None else f"{value}.{node.attr}"
    return None


def _uses(source: str) -> Iterator[tuple[str, int]]:
    """Yield (entry of WORLD, line) for all that a module uses of the world."""
    tree = ast.parse(source)
    names = _names(tree) | {name: name for name in BUILTINS}
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}  # not annotations
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or isinstance(node.ctx, ast.Store):
            continue
        dotted = _dotted(node, names)
        if dotted is None or dotted == "random":
            continue  # a variable of its own; a module's name, whose attribute is looked at by itself
        if dotted in BUILTINS | {"random.Random"} and node not in called:
            continue  # a field's name; a type
        for entry in WORLD:
            if dotted.startswith(f"{entry}.") or dotted == entry:
                yield entry, node.lineno


def uses(source: str) -> set[str]:
    return {entry for entry, _ in _uses(source)}


def _allowed(module: str) -> frozenset[str]:
    return next((names for place, (names, _) in MAY.items() if module.startswith(place)), frozenset())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_world_is_given_and_not_reached_for(module: str) -> None:
    used = sorted(set(_uses(MODULES[module].read_text())))
    assert [f"{module}:{line}: {entry}" for entry, line in used if entry not in _allowed(module)] == []


def test_daemon_and_client_take_the_world_as_parameters() -> None:
    assert {"clock", "entropy", "listeners", "broker"} <= set(inspect.signature(Daemon).parameters)
    assert {"entropy", "dial"} <= set(inspect.signature(tercet.connect).parameters)


@pytest.mark.parametrize("place", [place for place in sorted(MAY) if not place.endswith("/")])
def test_no_exception_is_left_that_nobody_needs(place: str) -> None:
    names, why = MAY[place]
    assert names == uses(MODULES[place].read_text())
    assert why


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import time\ntime.monotonic()", "time"),
        ("import time as clock\nclock.time()", "time"),
        ("from time import time_ns as now\nnow()", "time"),
        ("def f():\n    from time import sleep\n    sleep(1)", "time"),
        ("from datetime import datetime\ndatetime.now()", "datetime"),
        ("import datetime\ndatetime.datetime.now(datetime.UTC)", "datetime"),
        ("import random\nrandom.random()", "random"),
        ("import random\nrandom.Random()", "random"),
        ("from random import shuffle\nshuffle([])", "random"),
        ("import random\nx: random.Random = random.SystemRandom()", "random"),
        ("import secrets\nsecrets.token_hex()", "secrets"),
        ("from uuid import uuid4\nuuid4()", "uuid"),
        ("import os\nos.urandom(4)", "os.urandom"),
        ("import socket\nsocket.create_connection(('localhost', 1))", "socket"),
        ("import threading\nthreading.Thread(target=print).start()", "threading"),
        ("import concurrent.futures\nconcurrent.futures.ThreadPoolExecutor()", "concurrent"),
        ("import trio\ntrio.open_tcp_stream('localhost', 1)", "trio.open_tcp_stream"),
        ("import trio\ntrio.serve_tcp(print, 1)", "trio.serve_tcp"),
        ("import trio as t\nt.to_thread.run_sync(print)", "trio.to_thread"),
        ("from trio import to_thread\nto_thread.run_sync(print)", "trio.to_thread"),
        ("from trio.lowlevel import wait_readable\nwait_readable(0)", "trio.lowlevel.wait_readable"),
        (
            "from trio_websocket import open_websocket_url\nopen_websocket_url('ws://x')",
            "trio_websocket.open_websocket_url",
        ),
        ("from .clock import SystemClock\nSystemClock()", "SystemClock"),
        ("from ..clock import system_entropy\nsystem_entropy()", "system_entropy"),
        ("open('x')", "open"),
        ("sorted([], key=lambda x: id(x))", "id"),
    ],
)
def test_reaching_out_is_seen(source: str, expected: str) -> None:
    """The detector itself."""
    assert expected in uses(source)


@pytest.mark.parametrize(
    "source",
    [
        "import random\ndef draw(entropy: random.Random) -> float:\n    return entropy.random()",
        "import trio\nasync def f() -> None:\n    await trio.sleep(1)\n    print(trio.current_time())",
        "def f(time: int, id: int) -> int:\n    return time + id",
        "import os\nprint(os.environ, os.fspath('x'))",
    ],
)
def test_what_is_given_is_no_reaching_out(source: str) -> None:
    assert uses(source) == set()

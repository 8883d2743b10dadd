from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon
from tercet_broker.runtime.service_manager import ServiceManager, inherited_sockets


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What $NOTIFY_SOCKET says, and the socket behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = str(tmp_path / "notify") if request.param == "path" else f"@tercet-test-{os.getpid()}-{id(request)}"
        sock.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        sock.setblocking(False)
        yield name, sock


def heard(sock: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(sock.recv(1000).decode())
        except BlockingIOError:
            return found


async def test_daemon_says_that_it_is_ready_reloads_and_stops(manager: tuple[str, socket.socket]) -> None:
    name, sock = manager
    settings = DaemonSettings(listeners=(ListenerSettings("127.0.0.1:0"),))
    daemon = Daemon(settings, source=lambda: settings)
    daemon.service_manager = ServiceManager.of_environment({"NOTIFY_SOCKET": name})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    async with open_daemon(daemon):
        await trio.testing.wait_all_tasks_blocked()
        assert heard(sock) == ["READY=1"]
        await daemon.reload_from_source()
        reloading, ready = heard(sock)
        assert ready == "READY=1"
        first, _, when = reloading.partition("\nMONOTONIC_USEC=")
        assert first == "RELOADING=1"
        assert before <= int(when) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        await daemon.stop()
        assert heard(sock) == ["STOPPING=1"]


async def test_watchdog_is_told_twice_in_its_time(
    manager: tuple[str, socket.socket], autojump_clock: MockClock
) -> None:
    name, sock = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    daemon = Daemon(DaemonSettings(), listeners=[])
    daemon.service_manager = ServiceManager.of_environment(environment)
    async with open_daemon(daemon):
        await trio.sleep(9)
        assert heard(sock).count("WATCHDOG=1") == 5


def test_nobody_wants_to_hear() -> None:
    for environment in ({}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nonexistent/x"}):
        ServiceManager.of_environment(environment).ready()
    manager = ServiceManager.of_environment({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})
    assert manager.watchdog is None


def test_sockets_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert inherited_sockets(environment) == {}
    assert environment == {"LISTEN_PID": "1", "LISTEN_FDS": "1"}


ACTIVATED = """
import os, sys, trio
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon
os.environ["LISTEN_PID"] = str(os.getpid())
async def main():
    async with open_daemon(Daemon(DaemonSettings(listeners=(ListenerSettings(sys.argv[1]),)))) as urls:
        print(urls[0], "LISTEN_FDS" in os.environ, flush=True)
try:
    trio.run(main)
except OSError as error:
    print(error.strerror, flush=True)
"""


@pytest.mark.parametrize(
    ("names", "bind", "says"),
    [
        ("tercet", "systemd:tercet", "ws://127.0.0.1:{port} False"),
        ("", "systemd:unknown", "ws://127.0.0.1:{port} False"),
        (
            "other",
            "systemd:tercet",
            "cannot listen on systemd:tercet: the service manager has passed no such socket (passed: other)",
        ),
    ],
)
def test_sockets_of_the_service_manager_are_listened_on(names: str, bind: str, says: str) -> None:
    """By their names; what was opened before us needs no privilege of ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(
            [sys.executable, "-c", ACTIVATED, bind],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": names},
            preexec_fn=lambda: os.dup2(server.fileno(), 3),
            pass_fds=(3,),
        )
        last = [line for line in done.stdout.splitlines() if "ws://" in line or "cannot" in line][-1]
        assert last == says.format(port=server.getsockname()[1])

"""A broker's process: started on its core, measured from outside, ended."""

from __future__ import annotations

import os
import random
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from attrs import define, field, frozen

from .cores import Cores

_START = 15.0  # seconds until it must listen
_STOP = 1.0  # seconds for it to go before it is killed
_PORTS = (10_000, 30_000)  # below net.ipv4.ip_local_port_range as Linux has it
_TICKS = os.sysconf("SC_CLK_TCK")


class BrokerError(Exception):
    """A broker did not do what a broker does; the text says which and what."""


@frozen
class ProcessorTime:
    """What a process has used so far, in seconds: all of it, and how much of that in the kernel."""

    total: float
    system: float


@define(eq=False)
class BrokerProcess:
    """One running broker."""

    name: str
    popen: subprocess.Popen[bytes] = field(repr=False)
    address: tuple[str, int]
    log: Path

    def processor_time(self) -> ProcessorTime:
        """Return what all its threads have used, those that have ended included.

        The total is the kernel's clock for a process (what clock_getcpuclockid(3)
        gives), which is exact; /proc/PID/stat, which tells user from system
        time, counts in hundredths of a second.
        """
        stat = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return ProcessorTime(time.clock_gettime((~self.popen.pid << 3) | 2), int(stat[12]) / _TICKS)

    def resident_kib(self) -> int:
        """Return its resident memory in KiB."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise BrokerError(f"{self.name} has ended")

    def check(self) -> None:
        """Raise `BrokerError` if it has ended."""
        if self.popen.poll() is not None:
            raise BrokerError(f"{self.name} ended with {self.popen.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "(it said nothing)"


@contextmanager
def run_broker(
    name: str,
    command: Sequence[str],
    address: tuple[str, int],
    folder: Path,
    cores: Cores,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[BrokerProcess]:
    """Run a broker for the length of the block, listening on `address`, with these environment variables besides.

    Raises:
        BrokerError: it ended, or did not listen in time.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as sink, cores.on_brokers():
        popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=folder,
            env={**_environment(), **variables},
        )
    process = BrokerProcess(name, popen, address, log)
    try:
        _wait_until_listening(process)
        yield process
    finally:
        popen.terminate()
        try:
            popen.wait(_STOP)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _environment() -> Mapping[str, str]:
    """Return ours, without what would make Python measure or trace itself."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE", "PYTHONTRACE"))}


def _wait_until_listening(process: BrokerProcess) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        process.check()
        try:
            socket.create_connection(process.address, timeout=1).close()
        except OSError:
            select.select([], [], [], 0.02)
        else:
            return
    raise BrokerError(f"{process.name} does not listen after {_START:g} s: {process.last_words()}")


def free_port() -> int:
    """Return a port that nobody listens on.

    It is none of those that the kernel gives to clients: between this test
    and the broker's start, one of them might get it.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def find_program(name: str) -> str | None:
    """Return the path of a program: beside this Python, on the path, or where daemons live."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders))

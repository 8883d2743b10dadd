from __future__ import annotations

import resource
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import trio

from tercet_broker.runtime import raise_descriptor_limit

DAEMON = """
import sys, structlog, trio
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings

class Status(trio.TaskStatus):
    def started(self, urls=()):
        print(urls[0], flush=True)

structlog.configure(processors=[structlog.testing.LogCapture()])
settings = DaemonSettings(
    listeners=(ListenerSettings("127.0.0.1:0"),), timeouts=TimeoutSettings(drain=float(sys.argv[1]), close=1.0)
)
async def main():
    await Daemon(settings).run(signals=True, task_status=Status())
    print("returned", flush=True)

trio.run(main)
"""


async def start(nursery: trio.Nursery, drain: float) -> tuple[trio.Process, int]:
    command = [sys.executable, "-c", DAEMON, str(drain)]
    run = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
    process: trio.Process = await nursery.start(run)
    assert process.stdout is not None
    line = b""
    with trio.fail_after(60):
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(1000)
    return process, int(line.decode().strip().rpartition(":")[2])


async def connected(tools: Any, port: int) -> Any:
    peer = tools.Peer(await trio.open_tcp_stream("127.0.0.1", port))
    await peer.shake_hands()
    await peer.connect()
    return peer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_signal_drains(tools: Any, number: signal.Signals) -> None:
    async with trio.open_nursery() as nursery:
        process, port = await start(nursery, 0.05)
        peer = await connected(tools, port)
        process.send_signal(number)
        await peer.expect("drain")
        assert await peer.closed() == 1012
        with trio.fail_after(60):
            assert await process.wait() == 0


async def test_second_signal_stops_at_once(tools: Any) -> None:
    async with trio.open_nursery() as nursery:
        process, port = await start(nursery, 1000.0)
        peer = await connected(tools, port)
        process.send_signal(signal.SIGTERM)
        await peer.expect("drain")
        process.send_signal(signal.SIGINT)
        await peer.ended()
        with trio.fail_after(60):
            assert await process.wait() == 0
        await trio.aclose_forcefully(peer.stream)


def test_descriptor_limit_is_raised_to_what_is_allowed() -> None:
    code = (
        "import resource as r; from tercet_broker.runtime import raise_descriptor_limit;"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 128)); print(raise_descriptor_limit(), r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "128 (128, 128)\n"
    assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

"""A thousand hostile connections, and a publisher and a subscriber who notice nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import TimeoutSettings

if TYPE_CHECKING:
    from tests.integration.conftest import Certificates, Peer, Serve, Watched

ATTACKERS = Path(__file__).with_name("attackers.py")
WAVES = 4
AT_LEAST = 1000  # connections
SEED = 20
MIB = 1 << 20
PATIENCE = 120.0
# What one connection may make the daemon hold is bounded by its outbox and one
# message; with so many of them at once this is far less than they asked for.
MEMORY = 400 * MIB
SLOWEST = 20.0  # seconds; a message that waits for one of them would wait for its timeouts

BROKER = BrokerSettings(
    namespaces={"load": NamespaceSettings(history=HistorySettings(messages=1000, bytes=4 * MIB))},
    limits=LimitSettings(message_bytes=128 * 1024, outbox_bytes=MIB // 2),
)
# Short, so that all is over soon, but for those that an honest client might meet on a loaded machine.
TIMEOUTS = TimeoutSettings(handshake=3, connect=3, heartbeat=60, pong=30, write=2, close=1, drain=1)


def resident() -> int:
    """Return the bytes of memory that this process has."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


async def firehose(peer: Peer) -> None:
    """Publish to those who do not read, for as long as the test lasts."""
    number = 1
    while True:
        number += 1
        assert (await peer.ask("publish", id=number, topic="load/all", data="x" * 20_000))["op"] == "published"
        await trio.sleep(0.01)


# CPython 3.11 does not close the socket of a peer whose reset arrives within `wrap_socket` (ssl.SSLSocket._create).
@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_thousand_hostile_connections(
    serve: Serve, watched: Watched, baseline: Callable[[], Any], certificates: Certificates
) -> None:
    async with serve(BROKER, TIMEOUTS) as running, watched(running) as canary:
        publisher = await running.open("ws")
        before, memory = baseline(), resident()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(firehose, publisher)
            ports = str(running.ports["ws"]), str(running.ports["wss"])
            with trio.fail_after(PATIENCE):
                done = await trio.run_process(
                    [sys.executable, str(ATTACKERS), *ports, str(certificates.ca), str(WAVES), str(SEED)],
                    capture_stdout=True,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            nursery.cancel_scope.cancel()
        assert done.returncode == 0, done.stdout.decode()[-4000:]
        assert sum(json.loads(done.stdout).values()) >= AT_LEAST
        await before.regained()
        assert resident() - memory < MEMORY
        assert canary.delivered > 100
        assert canary.slowest < SLOWEST
        accounts = running.daemon.statistics().accounts
        assert [account for account in accounts if not account.balanced] == []

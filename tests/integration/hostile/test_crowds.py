"""Crowds that come and say nothing: as many as descriptors allow, and all of them gone by the one deadline."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.integration.hostile.levels.tls import hello
from tests.integration.hostile.test_attacks import BROKER

from tercet_broker.runtime import ConnectionSettings, TimeoutSettings
from tercet_broker.runtime.admission import Turned
from tercet_broker.runtime.memory import resident_bytes

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Serve, Watched, Wire

MOST = 3000  # connections, each with a descriptor on both sides
SPARE = 200  # descriptors, and objects, for everything else
AT_ONCE = 100  # that are being opened
AT_LEAST = 500  # however slow the machine
DEADLINE = 4.0  # seconds from accept to `connect` …
OPENING = 3.0  # … of which these are for the whole crowd to come
SLACK = 6.0  # seconds that a loaded machine may be late
MEMORY = 60 * 1024  # bytes a connection, the test's own end included
LATE = 5.0  # seconds that a canary's message may take
PATIENCE = 60.0
TIMEOUTS = TimeoutSettings(handshake=DEADLINE, connect=DEADLINE, heartbeat=20, pong=10, close=1, drain=0.5)
HELLO = hello()
LIMITS = ConnectionSettings(handshakes=2 * MOST, handshakes_per_address=MOST, accepts=1e6)


@pytest.fixture
def crowd() -> Iterator[int]:
    """How many connections there can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST + SPARE
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
    yield (limit - SPARE) // 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def say_nothing(running: Running, wire: Wire, kind: str) -> Peer:
    """Open a connection and go so far with it."""
    peer = await running.dial_tcp("wss" if "TLS" in kind else "ws")
    match kind:
        case "half a TLS handshake":
            await peer.send(HELLO)
        case "half a ClientHello, to TLS":
            await peer.send(HELLO[:50])
        case "half a request":
            await peer.send(wire.upgrade_request()[:50])
        case "no connect":
            await peer.upgrade()
    return peer


KINDS = (
    "nothing",
    "nothing, to TLS",
    "half a ClientHello, to TLS",
    "half a TLS handshake",
    "half a request",
    "no connect",
)


async def test_silent_thousands_are_gone_by_the_one_deadline(
    serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire, crowd: int
) -> None:
    """Whichever step they stay in; and everybody else is served meanwhile."""
    waits: list[float] = []
    async with serve(BROKER, TIMEOUTS, connections=LIMITS) as running, watched(running) as canary:
        gc.collect()
        before, memory, objects = baseline(), resident_bytes(), len(gc.get_objects())

        async def stay(kind: str) -> None:
            began = trio.current_time()
            peer = await say_nothing(running, wire, kind)
            opened.release()
            await peer.end()
            waits.append(trio.current_time() - began)
            await trio.aclose_forcefully(peer.stream)

        opened, number = trio.Semaphore(AT_ONCE), 0
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                while number < crowd and trio.current_time() - began < OPENING:
                    await opened.acquire()
                    nursery.start_soon(stay, KINDS[number % len(KINDS)])
                    number += 1
                assert not waits, "not all were there at once"
                grown = resident_bytes() - memory
                song = canary.delivered
        assert len(waits) == number >= min(crowd, AT_LEAST)
        assert min(waits) >= DEADLINE - 0.1
        assert max(waits) <= DEADLINE + SLACK
        assert grown < number * MEMORY
        assert canary.delivered > song
        assert canary.slowest < LATE
        await before.regained()
        turned = running.daemon.statistics().admission.turned_away
        assert turned[Turned.TLS] == sum("TLS" in KINDS[one % len(KINDS)] for one in range(number))
        del running.peers[2:]
        gc.collect()
        assert len(gc.get_objects()) - objects < number + SPARE, "something is left of each of them"

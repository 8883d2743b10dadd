"""Every attack of a level at once against one daemon, beside a pair that must lose nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import argon2
import pytest
import trio
from tests.integration.hostile.attacking import ATTACKS, Attack, Siege
from tests.integration.hostile.attacks import LEVELS, table

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import AuthSettings, ConnectionSettings, RateSettings, TimeoutSettings
from tercet_broker.runtime.memory import resident_bytes
from tercet_broker.runtime.settings import TokenSettings

if TYPE_CHECKING:
    from tests.integration.conftest import Serve, Watched, Wire

DOCS = Path(__file__).parents[3] / "docs" / "design" / "threats.md"
MIB = 1 << 20
MEMORY = 150 * MIB  # the test's own clients included
SLOWEST = 5.0  # seconds that a canary's message may take while a level's attacks run, on a loaded machine
BROKER = BrokerSettings(
    namespaces={
        "kept": NamespaceSettings(history=HistorySettings(messages=1000, bytes=4 * MIB), topics=50, keys=50),
        "canary": NamespaceSettings(history=HistorySettings(messages=100_000)),
    },
    unnamed_limit=20,
    limits=LimitSettings(outbox_bytes=MIB),
)
TIMEOUTS = TimeoutSettings(
    handshake=3, connect=3, heartbeat=1, pong=3, read=3, read_bytes=16, write=3, close=1, drain=0.5
)
RATES = RateSettings(frames=100, frames_burst=2000)  # (a slow machine serves no thousand pings a second)
HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def attacks(level: str) -> list[Attack]:
    return [one for one in ATTACKS if one.level == level]


@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("level", [level for level in LEVELS if level not in {"TLS", "tokens"}])
async def test_attacks(serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire, level: str) -> None:
    await fight(serve, watched, baseline, wire, level, "ws", "wss")


async def test_attacks_on_tls(serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire) -> None:
    await fight(serve, watched, baseline, wire, "TLS", "wss")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_attacks_with_tokens(
    serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire, scheme: str
) -> None:
    await fight(serve, watched, baseline, wire, "tokens", scheme)


async def fight(
    serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire, level: str, *schemes: str
) -> None:
    """Run a level's attacks; who is attacked, and who is not, is as before in the end."""
    auth = AuthSettings(required=False, token=(TokenSettings("feed", HASHER.hash("right"), "feed"),))
    options: dict[str, Any] = {"connections": ConnectionSettings(failed_tokens=50)}
    if level == "tokens":
        options["auth"] = auth
    got: dict[tuple[str, str], str] = {}
    async with serve(BROKER, TIMEOUTS, rates=RATES, **options) as running, watched(running) as canary:
        before, memory, ours = baseline(), resident_bytes(), len(running.peers)

        async def run(one: Attack, scheme: str) -> None:
            got[one.name, scheme] = await one.run(Siege(running, wire, scheme))

        with trio.fail_after(60):
            if level == "tokens":  # one after the other, for they share a limit
                for one in attacks(level):
                    await run(one, schemes[0])
            else:
                async with trio.open_nursery() as nursery:
                    for one in attacks(level):
                        for scheme in schemes:
                            nursery.start_soon(run, one, scheme)
        await running.hang_up(after=ours)
        await before.regained()
        gc.collect()
        assert resident_bytes() - memory < MEMORY
        assert canary.slowest < SLOWEST
        assert all(account.balanced for account in running.daemon.statistics().accounts)
    assert got == {(one.name, scheme): one.gets for one in attacks(level) for scheme in schemes}


def test_docs_show_what_each_attack_gets() -> None:
    """`python -m tests.integration.hostile` prints the table."""
    assert table() in DOCS.read_text()

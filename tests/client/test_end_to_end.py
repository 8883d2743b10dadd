"""The client with the real broker, over real sockets and in real time: nothing here waits for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from structlog.testing import capture_logs

import tercet
from tercet_broker.core import BrokerSettings, HistorySettings, NamespaceSettings
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, open_daemon

PATIENCE = 30.0  # seconds: whoever waits for so long has hung, however loaded the machine is
COUNT = 500


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[Daemon, str]]:
    """Run a broker that keeps history, on a Unix socket."""
    settings = DaemonSettings(
        listeners=(ListenerSettings(bind=f"unix:{path}"),),
        timeouts=TimeoutSettings(drain=0.05, close=0.5),
        broker=BrokerSettings(namespaces={"a": NamespaceSettings(history=HistorySettings(messages=10_000))}),
    )
    with capture_logs(), trio.fail_after(PATIENCE):
        daemon = Daemon(settings)
        async with open_daemon(daemon):
            yield daemon, f"ws+unix://{path}"


async def test_history_replay_live_and_history(tmp_path: Path) -> None:
    async with serving(tmp_path / "socket") as (_, url), tercet.connect(url) as client:
        for n in range(5):
            await client.publish("a/x", {"n": n}, retain=True)
        async with client.subscribe("a/+", last=2) as subscription:
            await client.publish("a/y", "live")
            events = subscription.events()
            kinds = [await anext(events) for _ in range(4)]
            assert [event.seq if isinstance(event, tercet.Message) else "live" for event in kinds] == [4, 5, "live", 6]
            page = await client.history("a/+", since=tercet.Position(subscription.position.epoch, 3), limit=2)  # type: ignore[union-attr]
            assert [message.seq for message in page.messages] == [4, 5]
            assert page.more
        assert [m.seq for m in await tercet.fetch(url, "a/x", retained=True)] == [5]
        assert await client.ping() < PATIENCE


async def test_small_buffer_loses_nothing_where_there_is_history(tmp_path: Path) -> None:
    """It steps back again and again, and gets everything from the log, once and in order."""
    async with (
        serving(tmp_path / "socket") as (_, url),
        tercet.connect(url) as client,
        client.subscribe("a/x", buffer=50) as subscription,
        client.pipeline() as out,
    ):
        for n in range(COUNT):
            await out.publish("a/x", n)
        await out.drain()
        seen = [(await subscription.receive()).data for _ in range(COUNT)]
        assert seen == list(range(COUNT))
        assert subscription.gaps == 0
        assert client.statistics().received > COUNT


async def test_restart_is_told_as_a_gap_and_publishes_go_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    gaps: list[tercet.Gap] = []
    async with (
        serving(path) as (daemon, url),
        tercet.connect(url, on_gap=gaps.append) as client,
        client.subscribe("a/x") as subscription,
    ):
        await client.publish("a/x", 1)
        assert (await subscription.receive()).data == 1
        before = subscription.position
        await daemon.stop()
        async with serving(path), trio.open_nursery() as nursery:
            nursery.start_soon(client.publish, "a/x", 2)
            await client.wait_connected()
            message = await subscription.receive()
            assert message.data == 2
            assert before is not None
            assert message.epoch != before.epoch
            assert [gap.reason for gap in gaps] == [tercet.GapReason.EPOCH]

from __future__ import annotations

import math
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock
from wsproto.events import CloseConnection, TextMessage

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, TlsSettings, open_daemon
from tercet_protocol import CloseCode, Opcode

if TYPE_CHECKING:
    from tests.runtime.conftest import Harness, Logs, Peer, Serve

# The planned stop


async def test_drain_tells_positions_and_the_time_and_closes_in_the_window(
    serve: Serve, autojump_clock: MockClock
) -> None:
    """D-001, D-002, D-003, P-006, S-023."""
    async with serve() as broker, trio.open_nursery() as nursery:
        told: list[tuple[float, float]] = []

        async def leave(peer: Peer) -> None:
            await peer.expect("position", namespace="chat", seq=1)
            wait = (await peer.expect("drain"))["retry_after"]
            answer = await peer.ask(op="publish", id=9, topic="chat/a", data=2)
            assert (answer["code"], answer["retry_after"] > 0) == ("unavailable", True)
            assert await peer.closed() == CloseCode.SERVICE_RESTART
            told.append((wait, trio.current_time()))

        peers = [await broker.client() for _ in range(20)]
        for peer in peers:
            await peer.ask(op="subscribe", id=2, filter="chat/#")
        await peers[0].say(op="publish", topic="chat/a", data=1)
        for peer in peers:
            await peer.expect("message", seq=1)
        await trio.sleep(20)
        broker.daemon.drain()
        broker.daemon.drain()
        for peer in peers:
            nursery.start_soon(leave, peer)
        await broker.done.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(told) == 20
        assert all(0 <= wait <= 5 for wait, _ in told)
        assert all(20 <= when <= 25 for _, when in told)
        assert len({wait for wait, _ in told}) > 10
        assert len({when for _, when in told}) > 10
        assert trio.current_time() == max(when for _, when in told)
        assert broker.daemon.statistics().sessions == ()
        broker.assert_balanced()


async def test_daemon_goes_on_with_the_broker_of_another(serve: Serve, autojump_clock: MockClock) -> None:
    """One that has drained: the next daemon takes publishes, in the same sequence."""
    async with serve() as first:
        peer = await first.client()
        before = await peer.ask(op="publish", id=2, topic="chat/a", data=1)
        first.daemon.drain()
        await first.done.wait()
    core = first.daemon.broker
    core.reopen()
    async with serve(broker=core) as second:
        assert second.daemon.broker is core
        peer = await second.client()
        after = await peer.ask(op="publish", id=2, topic="chat/a", data=2)
        assert (after["epoch"], after["seq"]) == (before["epoch"], before["seq"] + 1)
        second.assert_balanced()


async def test_drain_of_nobody_is_immediate(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve() as broker:
        with trio.fail_after(0.001):
            await broker.daemon.stop()
            await broker.done.wait()
        assert trio.current_time() == 0.0


async def test_drain_turns_newcomers_away(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    """C-007: also those that were connected before, and send their head now."""
    async with serve() as broker:
        await broker.client()
        early = await broker.raw()
        await trio.testing.wait_all_tasks_blocked()
        broker.daemon.drain()
        late, monitor = await broker.raw(), await broker.raw()
        for peer in (early, late):
            await peer.raw(tools.head())
            await peer.ended()
            assert peer.received.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in peer.received.lower()
        await monitor.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await monitor.ended()
        assert monitor.received.startswith(b"HTTP/1.1 503 ")


async def test_drain_cuts_who_does_not_leave(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve(lockstep=True) as broker:
        await broker.client()  # will not read, and not answer the Close
        await trio.sleep(1)
        broker.daemon.drain()
        await broker.done.wait()
        assert 1 + 5 <= trio.current_time() <= 1 + 5 + 5
        assert broker.listener is not None
        assert broker.listener.accepted[0].closed.is_set()
        assert broker.daemon.statistics().sessions == ()


async def test_drain_flushes_what_is_queued_before_the_close(
    serve: Serve, autojump_clock: MockClock, tools: Any
) -> None:
    """D-004."""
    async with serve(lockstep=True) as broker:
        reader, writer = await broker.client(), await broker.client()
        await reader.ask(op="subscribe", id=2, filter="chat/#")
        for n in range(500):
            assert (await writer.ask(op="publish", id=3, topic="chat/a", data=n))["seq"] == n + 1
        broker.daemon.drain()
        seen = []
        while not isinstance(event := await reader.frame(), CloseConnection):
            assert isinstance(event, TextMessage)
            if '"op":"message"' in event.data:
                seen.append(event.data)
        assert len(seen) == 500
        broker.assert_balanced()


async def test_stop_waits_until_run_is_over(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve() as broker, trio.open_nursery() as nursery:
        peer = await broker.client()
        nursery.start_soon(broker.daemon.stop)
        await peer.expect("drain")
        assert await peer.closed() == CloseCode.SERVICE_RESTART


async def test_fault_in_the_block_leaves_open_daemon(autojump_clock: MockClock, tools: Any) -> None:
    """As it is, in no group."""
    with pytest.raises(ZeroDivisionError):
        async with open_daemon(Daemon(listeners=[tools.MemoryListener()])):
            raise ZeroDivisionError


async def test_address_in_use_is_raised_by_open_daemon(tmp_path: Path) -> None:
    settings = DaemonSettings(listeners=(ListenerSettings(f"unix:{tmp_path}/no/such"),))
    with pytest.raises(OSError, match="cannot listen on"):
        async with open_daemon(Daemon(settings)):
            raise AssertionError("it is not entered")


async def test_listener_that_cannot_be_opened_is_raised(tmp_path: Path) -> None:
    daemon = Daemon(DaemonSettings(listeners=(ListenerSettings(f"unix:{tmp_path}/no/such"),)))
    with pytest.raises(OSError, match="cannot listen on unix:"):
        await daemon.run()


async def test_tree_is_as_documented(serve: Serve, autojump_clock: MockClock, tools: Any) -> None:
    """Tasks: the daemon's services, one a listener, two a connection, and a drainer where one is needed."""

    def names(task: trio.lowlevel.Task) -> list[str]:
        return sorted(
            child.name.rpartition(".")[2] for nursery in task.child_nurseries for child in nursery.child_tasks
        )

    async with serve(lockstep=True) as broker:
        (run,) = [
            child
            for nursery in trio.lowlevel.current_task().child_nurseries
            for child in nursery.child_tasks
            if child.name.endswith("run")
        ]
        alone = ["_carry_out_changes", "_sweep", "accept_forever", "run", "run"]
        assert names(run) == alone
        peer = await broker.client()
        await trio.testing.wait_all_tasks_blocked()
        assert names(run) == sorted([*alone, "serve"])
        (serving,) = [
            child for nursery in run.child_nurseries for child in nursery.child_tasks if child.name.endswith("serve")
        ]
        assert names(serving) == ["_reader_task"]
        await peer.say(op="ping")
        await trio.testing.wait_all_tasks_blocked()
        assert names(serving) == ["_drain", "_reader_task"]
        await peer.expect("pong")
        await trio.testing.wait_all_tasks_blocked()
        assert names(serving) == ["_reader_task"]


# Cancellation at every step

BUSY = DaemonSettings(
    broker=BrokerSettings(
        namespaces={"chat": NamespaceSettings(history=HistorySettings(messages=1000))},
        limits=LimitSettings(message_bytes=4096, outbox_messages=100, outbox_bytes=65536),
    ),
    timeouts=TimeoutSettings(drain=0.02, close=0.02, handshake=0.5, heartbeat=0.5),
)


class Canceller(trio.abc.Instrument):
    """Cancels a scope after so many steps of tasks."""

    def __init__(self, scope: trio.CancelScope, after: float, check: Callable[[], None]) -> None:
        self.scope = scope
        self.after = after
        self.check = check
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the instrument's signature
        self.steps += 1
        if not self.steps % 7:
            self.check()
        if self.steps == self.after:
            self.scope.cancel()


async def busy_day(broker: Harness, tools: Any, slow_dial: Callable[[], Awaitable[trio.abc.Stream]]) -> None:
    """Have connections in every state there is, then drain."""

    async def refuse_to_read() -> None:
        stream = await slow_dial()
        broker.dialled.append(stream)
        slow = tools.Peer(stream)
        await slow.shake_hands()
        await slow.connect()
        await slow.say(op="subscribe", id=2, filter="chat/#", last=100)
        await trio.sleep_forever()

    async def shake_half_a_hand() -> None:
        half = await broker.raw()
        await half.raw(tools.head()[:40])
        await half.ended()

    async def not_say_goodbye() -> None:
        rude = await broker.client()
        await rude.raw(tools.client_frame(Opcode.TEXT, b"x", rsv=1))
        await rude.ended()

    async def say_goodbye() -> None:
        polite = await broker.client()
        await polite.raw(tools.client_frame(Opcode.CLOSE, b"\x03\xe8"))
        await polite.ended()

    async def be_refused() -> None:
        wrong = await broker.raw()
        await wrong.raw(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
        await wrong.ended()

    async with trio.open_nursery() as nursery:
        alice = await broker.client()
        for n in range(30):
            await alice.say(op="publish", topic="chat/a", data=[n, "x" * 100])
        for task in (refuse_to_read, shake_half_a_hand, not_say_goodbye, say_goodbye, be_refused):
            nursery.start_soon(task)
        bob = await broker.client()
        await bob.ask(op="subscribe", id=2, filter="chat/#", last=20)
        for n in range(10):
            assert (await alice.ask(op="publish", id=3, topic="chat/a", data=n))["op"] == "published"
        broker.daemon.drain()
        nursery.start_soon(alice.ended)
        nursery.start_soon(bob.ended)
        await broker.done.wait()
        nursery.cancel_scope.cancel()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no paths are wanted


def run_busy_day(
    tools: Any,
    after: float,
    *,
    clock: trio.abc.Clock | None = None,
    listener: ListenerSettings | None = None,
    dial: Callable[[str], Awaitable[trio.abc.Stream]] | None = None,
) -> int:
    """Run it, cancelled after so many steps; check what is left; return how many steps there were."""

    async def main() -> int:
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        memory = tools.MemoryListener()
        settings = BUSY if listener is None else evolve(BUSY, listeners=(listener,))
        daemon = Daemon(settings, entropy=random.Random(0), listeners=[memory] if listener is None else None)
        url = ""

        async def dial_any() -> trio.abc.Stream:
            return await (memory.dial() if dial is None else dial(url))

        async def dial_slowly() -> trio.abc.Stream:
            memory.make_pair = trio.testing.lockstep_stream_pair
            try:
                return await dial_any()
            finally:
                memory.make_pair = trio.testing.memory_stream_pair

        broker = tools.Harness(daemon, dial_any)
        scope = trio.CancelScope()
        ready = trio.Event()

        async def supervise() -> None:
            with scope:
                await daemon.run(task_status=Started())
            broker.done.set()
            ready.set()

        class Started(trio.TaskStatus[tuple[str, ...]]):
            def started(self, value: tuple[str, ...] = ()) -> None:
                nonlocal url
                url = value[0]
                ready.set()

        canceller = Canceller(scope, after, broker.assert_balanced)
        trio.lowlevel.add_instrument(canceller)
        try:
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(supervise)
                    await ready.wait()

                    async def play() -> None:
                        try:
                            await busy_day(broker, tools, dial_slowly)
                        except* Exception:
                            # What clients make of a broker that is cut off under them is not the question here.
                            if after == math.inf and dial is None:
                                raise

                    nursery.start_soon(play)
                    await broker.done.wait()
                    nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(canceller)
            for stream in broker.dialled:
                await trio.aclose_forcefully(stream)
        assert daemon.statistics().sessions == ()
        broker.assert_balanced()
        assert all(account.queued == 0 for account in daemon.statistics().accounts)
        assert all(stream.closed.is_set() for stream in memory.accepted)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        return canceller.steps

    return trio.run(main, clock=clock)


def test_cancellation_at_every_step_leaves_nothing_behind(tools: Any, logs: Logs) -> None:
    """Tasks, streams, sessions, unbalanced books: none, wherever the daemon was."""
    total = run_busy_day(tools, math.inf, clock=MockClock(autojump_threshold=0))
    assert total > 300
    stride = max(1, total // 300)
    for after in range(1, total, stride):
        run_busy_day(tools, after, clock=MockClock(autojump_threshold=0))
    assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []


@pytest.mark.parametrize("transport", ["ws", "wss", "unix"])
def test_cancellation_leaves_no_descriptor_behind(
    tools: Any, tmp_path: Path, transport: str, tls: TlsSettings, client_context: ssl.SSLContext, logs: Logs
) -> None:
    path = str(tmp_path / "tercet.sock")
    listener = ListenerSettings(
        f"unix:{path}" if transport == "unix" else "127.0.0.1:0", tls=tls if transport == "wss" else None
    )

    async def dial(url: str) -> trio.abc.Stream:
        if transport == "unix":
            return await trio.open_unix_socket(path)
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        if transport == "ws":
            return stream
        return trio.SSLStream(stream, client_context, server_hostname="localhost", https_compatible=True)

    total = run_busy_day(tools, math.inf, listener=listener, dial=dial)
    before = _descriptors()
    for after in range(1, total, max(1, total // 40)):
        run_busy_day(tools, after, listener=listener, dial=dial)
        assert _descriptors() == before, after
        assert not Path(path).exists()
    assert [entry for entry in logs if entry["log_level"] in {"error", "critical"}] == []

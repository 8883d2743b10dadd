"""`tercet serve` as its user has it: a process, its output, its signals, its exit status."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import define, field

if TYPE_CHECKING:
    from tests.integration.conftest import Peer

TERCET = str(Path(sys.executable).parent / "tercet")
PATIENCE = 30.0
CONFIG = """
[[listener]]
bind = "127.0.0.1:0"

[timeouts]
drain = {drain}
close = 1
"""

Dial = Callable[[int], Any]


@define(eq=False)
class Server:
    """A running `tercet serve`.

    Attributes:
        process: itself.
        port: where it listens.
        errors: what it has written on standard error, complete once it has ended.
    """

    process: trio.Process
    port: int
    errors: bytearray = field(factory=bytearray)
    gone: trio.Event = field(factory=trio.Event)
    news: trio.Event = field(factory=trio.Event)

    async def read_errors(self) -> None:
        assert self.process.stderr is not None
        with suppress(trio.ClosedResourceError):  # by a test that wants no more of it
            async for data in self.process.stderr:
                self.errors += data
                self.news.set()
                self.news = trio.Event()
        self.gone.set()

    async def says(self, word: bytes, times: int) -> None:
        """Wait until standard error holds `word` so many times."""
        with trio.fail_after(PATIENCE):
            while self.errors.count(word) < times:
                await self.news.wait()

    async def exit_status(self) -> int:
        await self.gone.wait()
        return await self.process.wait()


@asynccontextmanager
async def tercet_serve(*arguments: str, limit: int | None = None) -> AsyncIterator[Server]:
    """Start it, and wait for its word that it listens."""

    def lower_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    [TERCET, "serve", *arguments],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=False,
                    preexec_fn=lower_limit,
                )
            )
            assert process.stdout is not None
            line = b""
            while not line.endswith(b"\n"):
                data = await process.stdout.receive_some()
                assert data, "it ended without a word"
                line += data
            match = re.fullmatch(rb"listening on ws://127\.0\.0\.1:(\d+)\n", line)
            assert match, line
            server = Server(process, int(match[1]))
            nursery.start_soon(server.read_errors)
            yield server
            nursery.cancel_scope.cancel()


@pytest.fixture
def config(tmp_path: Path) -> Callable[[float], str]:
    """A function that writes a configuration with such a drain window, and returns its name."""

    def write(drain: float = 0.3) -> str:
        path = tmp_path / "tercet.toml"
        path.write_text(CONFIG.format(drain=drain))
        return str(path)

    return write


async def test_serves_and_drains(config: Callable[..., str], dial: Dial) -> None:
    """SIGTERM: every client is told, closed with 1012, and the process exits with 0."""
    async with tercet_serve("--config", config()) as server:
        peers: list[Peer] = [await dial(server.port) for _ in range(5)]
        for peer in peers:
            await peer.connect()
            await peer.ask("subscribe", id=2, filter="a/#")
        assert (await peers[0].ask("publish", id=3, topic="a/b", data="hello"))["seq"] == 1
        for peer in peers[1:]:
            assert (await peer.message())["data"] == "hello"
        os.kill(server.process.pid, signal.SIGTERM)
        for peer in peers:
            while (message := await peer.message())["op"] != "drain":
                assert message["op"] == "position"
            assert await peer.close_code() == 1012
            await trio.aclose_forcefully(peer.stream)
        assert await server.exit_status() == 0
        assert b"stopped" in server.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stops_at_once_with_nobody_there(config: Callable[..., str], number: signal.Signals) -> None:
    async with tercet_serve("--config", config(10 * PATIENCE)) as server:
        os.kill(server.process.pid, number)
        assert await server.exit_status() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_stops_at_once(config: Callable[..., str], dial: Dial, second: signal.Signals) -> None:
    async with tercet_serve("--config", config(10 * PATIENCE)) as server:
        peer: Peer = await dial(server.port)
        await peer.connect()
        os.kill(server.process.pid, signal.SIGTERM)
        assert (await peer.message())["op"] == "drain"
        newcomer: Peer = await dial(server.port)
        await newcomer.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await newcomer.status() == 503
        os.kill(server.process.pid, second)
        await peer.end()
        assert await server.exit_status() == 0
        await trio.aclose_forcefully(peer.stream)
        await trio.aclose_forcefully(newcomer.stream)


async def test_descriptor_limit_is_raised(config: Callable[..., str]) -> None:
    """More clients than the soft limit lets in would otherwise be turned away."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with tercet_serve("--config", config(), limit=128) as server:
        limits = await trio.Path(f"/proc/{server.process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        assert line.split()[3:5] == [str(hard), str(hard)]


async def test_trace_shows_every_frame(config: Callable[..., str], dial: Dial) -> None:
    async with tercet_serve("--config", config(), "--trace") as server:
        peer: Peer = await dial(server.port)
        await peer.connect()
        await peer.ask("publish", id=2, topic="a/b", data={"hello": "wörld\n"})
        await peer.leave()
        await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0
        errors = server.errors.decode()
    assert re.search(r'^\S+ <- text \d+ \{"op": "connect", "id": 1\}$', errors, re.MULTILINE), errors
    assert re.search(r'^\S+ -> text \d+ \{"op":"connected",.*\}$', errors, re.MULTILINE), errors
    assert re.search(r'^\S+ <- text \d+ \{"op": "publish", .*"a/b".*\}$', errors, re.MULTILINE), errors
    assert re.search(r"^\S+ <- close 2 1000$", errors, re.MULTILINE), errors
    assert re.search(r"^\S+ -> close 2 1000$", errors, re.MULTILINE), errors


async def test_log_is_json_lines(config: Callable[..., str], dial: Dial) -> None:
    async with tercet_serve("--config", config()) as server:
        peer: Peer = await dial(server.port)
        await peer.connect()
        await peer.leave()
        await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0
    first, *between, last = [json.loads(line)["event"] for line in server.errors.decode().splitlines()]
    assert (first, last) == ("listening", "stopped")
    # The connection's end may be noted before the signal or after it.
    assert sorted(between) == ["connection closed", "connection opened", "draining"]


def test_bad_configuration_is_told_whole(tmp_path: Path) -> None:
    """Exit status 2, and every problem at once."""
    path = tmp_path / "bad.toml"
    path.write_text(
        '[limits]\nmessage_bites = 5\nlast = "many"\n[timeouts]\ndrain = -1\n[[listener]]\nbind = "nowhere"\n'
    )
    done = subprocess.run(
        [TERCET, "serve", "--config", str(path)], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (2, "")
    for problem in ("message_bites", "last", "drain", "bind"):
        assert problem in done.stderr


def test_no_configuration_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [TERCET, "serve", "--config", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "none.toml" in done.stderr
    assert "Traceback" not in done.stderr


async def test_address_in_use(config: Callable[..., str]) -> None:
    async with tercet_serve("--config", config()) as server:
        done = await trio.run_process(
            [TERCET, "serve", "--bind", f"127.0.0.1:{server.port}"], capture_stderr=True, check=False
        )
        assert done.returncode == 1
        assert b"in use" in done.stderr
        assert b"Traceback" not in done.stderr


async def test_sighup_reloads_and_a_bad_file_changes_nothing(config: Callable[..., str], dial: Dial) -> None:
    name = config()
    path = trio.Path(name)
    right = await path.read_text()
    async with tercet_serve("--config", name) as server:
        peer: Peer = await dial(server.port)
        await peer.connect()
        await path.write_text(right + "[limits]\nsubscriptions = 0\n")
        os.kill(server.process.pid, signal.SIGHUP)
        await server.says(b"not reloaded", 1)
        assert b"limits.subscriptions" in server.errors
        assert (await peer.ask("subscribe", id=2, filter="a"))["op"] == "subscribed"
        await path.write_text(right + "[limits]\nsubscriptions = 1\n")
        os.kill(server.process.pid, signal.SIGHUP)
        await server.says(b'"reloaded"', 1)
        assert (await peer.ask("subscribe", id=3, filter="b"))["code"] == "too_many_subscriptions"
        await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0

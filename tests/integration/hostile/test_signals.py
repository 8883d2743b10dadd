"""Signals: `tercet serve` as a process, which gets them by the hundred, and whose files are wrong by then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from tests.integration.test_daemon_process import CONFIG, tercet_serve

if TYPE_CHECKING:
    from tests.integration.conftest import Peer

PATIENCE = 30.0
Dial = Callable[[int], Any]


async def test_storm_of_sighup_with_bad_configurations(tmp_path: Path, dial: Dial) -> None:
    """A hundred SIGHUPs, the file ever another that is wrong: nobody notices, and the right one is taken at last."""
    config = tmp_path / "tercet.toml"
    good = CONFIG.format(drain=0.1)
    config.write_text(good)
    wrong = ["", "[[[", good + "[limits]\nlast = -1\n", "\0" * 1000, "x = " + "[" * 5000, good * 2]
    async with tercet_serve("--config", str(config)) as server:
        canary: Peer = await dial(server.port)
        await canary.connect()
        with trio.fail_after(PATIENCE):
            for number in range(2, 102):
                config.write_text(wrong[number % len(wrong)] or "[")
                os.kill(server.process.pid, signal.SIGHUP)
                assert (await canary.ask("publish", id=number, topic="a/b", data=1))["seq"] == number - 1
            config.write_text(good)
            os.kill(server.process.pid, signal.SIGHUP)
            await server.says(b'"event": "reloaded"', 1)
            await canary.leave()
            await trio.aclose_forcefully(canary.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0
        assert b"Traceback" not in server.errors


async def test_reload_that_hangs_holds_up_no_stop(tmp_path: Path, dial: Dial) -> None:
    """The configuration is a pipe that nobody writes to, and SIGHUPs come: everybody is served, and SIGTERM obeyed."""
    config = tmp_path / "tercet.toml"
    config.write_text(CONFIG.format(drain=0.1))
    async with tercet_serve("--config", str(config)) as server:
        canary: Peer = await dial(server.port)
        await canary.connect()
        config.unlink()
        os.mkfifo(config)
        for number in range(2, 5):
            os.kill(server.process.pid, signal.SIGHUP)
            assert (await canary.ask("publish", id=number, topic="a/b", data=1))["op"] == "published"
        await canary.leave()
        await trio.aclose_forcefully(canary.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await server.exit_status() == 0
        assert b"Traceback" not in server.errors


async def test_storm_of_sigterm(tmp_path: Path, dial: Dial) -> None:
    """Every kind of signal at once: it stops, with status 0, and says so."""
    config = tmp_path / "tercet.toml"
    config.write_text(CONFIG.format(drain=5))
    async with tercet_serve("--config", str(config)) as server:
        peers: list[Peer] = [await dial(server.port) for _ in range(10)]
        for peer in peers:
            await peer.connect()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM) * 5:
            try:
                os.kill(server.process.pid, number)
            except ProcessLookupError:
                break
        with trio.fail_after(PATIENCE):
            assert await server.exit_status() == 0
        assert b"Traceback" not in server.errors
        for peer in peers:
            await trio.aclose_forcefully(peer.stream)

"""Resources: `tercet serve` as a process, which is to survive the want of them."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from tests.integration.test_daemon_process import CONFIG, tercet_serve

if TYPE_CHECKING:
    from tests.integration.conftest import Peer

PATIENCE = 30.0
DESCRIPTORS = 40
Dial = Callable[[int], Any]


async def test_want_of_descriptors_holds_up_newcomers_alone(tmp_path: Path, dial: Dial) -> None:
    """RLIMIT_NOFILE is used up: who is in is served, newcomers wait, and come in when there is room again."""
    config = tmp_path / "tercet.toml"
    config.write_text(CONFIG.format(drain=0.1))
    async with tercet_serve("--config", str(config)) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        canary: Peer = await dial(server.port)
        await canary.connect()
        crowd = [await dial(server.port) for _ in range(2 * DESCRIPTORS)]
        await server.says(b"cannot accept", 1)
        with trio.fail_after(PATIENCE):
            for number in range(2, 50):
                assert (await canary.ask("publish", id=number, topic="a/b", data=1))["op"] == "published"
            for peer in crowd:
                await trio.aclose_forcefully(peer.stream)
            newcomer: Peer = await dial(server.port)
            await newcomer.connect()
            for peer in (newcomer, canary):
                await peer.leave()
                await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0


async def test_log_that_cannot_be_written_ends_nobody(tmp_path: Path, dial: Dial) -> None:
    """Whoever reads it is gone, or the disk is full, perhaps of lines that clients have caused."""
    config = tmp_path / "tercet.toml"
    config.write_text(CONFIG.format(drain=0.1) + '[logging]\nlevel = "debug"\n')
    async with tercet_serve("--config", str(config)) as server:
        assert server.process.stderr is not None
        await server.says(b"listening", 1)
        await server.process.stderr.aclose()
        for _ in range(3):
            peer: Peer = await dial(server.port)
            await peer.connect()
            await peer.leave()
            await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await server.process.wait() == 0


async def test_what_clients_send_forges_no_line_of_the_log(tmp_path: Path, dial: Dial, wire: Any) -> None:
    """CR, LF and ANSI sequences in each text that a client has a say in: one object a line, nothing to obey."""
    config = tmp_path / "tercet.toml"
    config.write_text(CONFIG.format(drain=0.1) + '[logging]\nlevel = "debug"\nformat = "json"\n')
    evil = '\r\n\x1b[31m{"event":"forged","level":"error"}\u2028\x9b'
    async with tercet_serve("--config", str(config)) as server:
        for path in ("/\x1b[2J", "/%0d%0aforged", "/?\x9b"):
            peer: Peer = await dial(server.port)
            await peer.send(wire.upgrade_request(path, user_agent="\x1b[31m", origin="x\x1b]0;x\x07"))
            await peer.send(wire.client_frame(8, b"\x03\xe8"))
            await peer.end()
            await trio.aclose_forcefully(peer.stream)
        peer = await dial(server.port)
        await peer.upgrade()
        assert (await peer.ask("connect", id=1, client=evil))["op"] == "connected"
        await peer.ask("subscribe", id=2, filter=evil)
        await peer.ask("publish", id=3, topic=evil, data=evil)
        await peer.send(wire.client_frame(8, b"\x03\xe8" + evil.encode()))
        await peer.end()
        await trio.aclose_forcefully(peer.stream)
        os.kill(server.process.pid, signal.SIGTERM)
        assert await server.exit_status() == 0
    lines = server.errors.decode().splitlines()
    assert len(lines) > 3
    assert all(json.loads(line)["event"] != "forged" for line in lines)
    assert b"\x1b" not in server.errors
    assert "\x9b" not in server.errors.decode()

"""WebSocket clients that nobody here wrote: an asyncio package, Node's `ws`, and a browser's own.

Each holds the same conversation (client.mjs, asyncio_client.py) and tells in
JSON what it has seen. The daemon is stopped in the middle of it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

if TYPE_CHECKING:
    from tests.integration.conftest import Certificates, Running, Serve

HERE = Path(__file__).parent
SCRIPT = HERE / "client.mjs"
PATIENCE = 60.0
both = pytest.mark.parametrize("scheme", ["ws", "wss"])

CHROMIUM = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --ignore-certificate-errors
    --enable-logging=stderr
""".split()


@asynccontextmanager
async def drained_when_told(running: Running) -> AsyncIterator[None]:
    """Drain the daemon once the client says that it is ready for that."""
    witness = await running.open("ws")
    await witness.ask("subscribe", id=2, filter="foreign/#")

    async def drain_when_told() -> None:
        while (await witness.message()).get("topic") != "foreign/done":
            pass
        running.daemon.drain()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_when_told)
            yield
            nursery.cancel_scope.cancel()


async def run(running: Running, command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a client to its end. Return what it printed."""
    async with drained_when_told(running):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, **(environment or {})}
        )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode()


async def browse(running: Running, command: list[str]) -> str:
    """Run a browser until its page has told something on the console. Return that."""
    async with drained_when_told(running), trio.open_nursery() as nursery:
        browser: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        )
        assert browser.stderr is not None
        log = b""
        while (told := re.search(rb'TOLD ([A-Za-z0-9+/=]+)"', log)) is None:
            data = await browser.stderr.receive_some()
            assert data, log.decode()[-4000:]
            log += data
        browser.terminate()
    return base64.b64decode(told[1]).decode()


def url_of(running: Running, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{running.ports[scheme]}/"


def check(told: dict[str, Any]) -> None:
    """Hold what a client has seen against the contract."""
    assert told["connected"]["op"] == "connected"
    assert [told[name]["seq"] for name in ("retain", "second", "third")] == [1, 2, 3]
    assert told["subscribed"]["live"] is False
    *replay, live = told["replay"]
    assert [(message["seq"], message["data"], message.get("retained")) for message in replay] == [
        (1, "täglich 😀", True),
        (2, {"n": 2}, None),
        (3, [3], None),
    ]
    assert {message["sub"] for message in replay} == {5}
    assert (live["sub"], live["seq"]) == (5, 3)
    assert (told["live"]["seq"], told["live"]["topic"], told["live"]["data"]) == (4, "kept/c", "live")
    assert [message["seq"] for message in told["history"]["messages"]] == [2, 3, 4]
    assert (told["error"]["op"], told["error"]["code"]) == ("error", "invalid_topic")
    assert told["closed"] == {"code": 1000, "clean": True}
    assert told["resumed"]["recovered"] is True
    *missed, live = told["missed"]
    assert [(message["op"], message["seq"], message["data"]) for message in missed] == [
        ("message", number + 3, number) for number in range(2, 21)
    ]
    assert live["seq"] == 23
    assert told["unsubscribed"]["op"] == "unsubscribed"
    assert told["pong"]["op"] == "pong"
    assert [message for message in told["skipped"] if message["op"] != "position"] == []
    assert told["drain"]["retry_after"] >= 0
    assert (told["refused"]["op"], told["refused"]["code"]) == ("error", "unavailable")
    assert told["end"] == {"code": 1012, "clean": True}


@both
async def test_websockets_package(serve: Serve, certificates: Certificates, scheme: str) -> None:
    async with serve() as running:
        script = str(HERE / "asyncio_client.py")
        told = json.loads(await run(running, [sys.executable, script, url_of(running, scheme), str(certificates.ca)]))
    check(told)
    assert told["protocol"] == "tercet.v1.json"


@both
@pytest.mark.needs("node", "ws")
async def test_ws_in_node(
    serve: Serve, certificates: Certificates, tool: Callable[[str], Path], tmp_path: Path, scheme: str
) -> None:
    main = tmp_path / "main.cjs"
    main.write_text(
        f"const WebSocket = require({json.dumps(str(tool('ws')))});\n"
        f"import({json.dumps(SCRIPT.as_uri())})\n"
        "  .then(() => converse(WebSocket, process.argv[2]))\n"
        "  .then((told) => { console.log(JSON.stringify(told)); process.exit(0); });\n"
    )
    async with serve() as running:
        command = [str(tool("node")), str(main), url_of(running, scheme)]
        told = json.loads(await run(running, command, {"NODE_EXTRA_CA_CERTS": str(certificates.ca)}))
    check(told)


@both
@pytest.mark.needs("chromium")
async def test_chromium(serve: Serve, tool: Callable[[str], Path], tmp_path: Path, scheme: str) -> None:
    """A page with `new WebSocket(url)`: no subprotocol, and pings that only the browser sees."""
    page = tmp_path / "page.html"
    async with serve() as running:
        page.write_text(
            f"<!doctype html><meta charset=utf-8><title>waiting</title><pre></pre><script>{SCRIPT.read_text()}\n"
            f"converse(WebSocket, {json.dumps(url_of(running, scheme))})\n"
            "  .then((told) => JSON.stringify(told), (error) => 'failed: ' + error)\n"
            "  .then((text) => {\n"
            "    console.log('TOLD ' + btoa(unescape(encodeURIComponent(text))));\n"
            "  });\n"
            "</script>"
        )
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        told = json.loads(await browse(running, [str(tool("chromium")), *CHROMIUM, profile, page.as_uri()]))
    check(told)

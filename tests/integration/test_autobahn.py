"""Autobahn's cases against the daemon's own listener and link, with an echo behind them.

Its verdicts accept a connection that was cut where a Close was due, so the
close codes are looked at here once more.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import define, field

from tercet_broker.core import BrokerSettings, LimitSettings
from tercet_broker.core.outbox import Outbox
from tercet_broker.runtime import Connection, RateSettings, TimeoutSettings
from tercet_protocol import CloseCode, Opcode, encode_frame

if TYPE_CHECKING:
    from tests.integration.conftest import Serve

HOST = "127.0.0.1"
MIB = 1 << 20
PATIENCE = 200.0  # seconds for one run; it takes about a tenth
LARGE = BrokerSettings(limits=LimitSettings(message_bytes=16 * MIB, outbox_bytes=64 * MIB))
RATES = RateSettings(frames_burst=1e6)  # some cases come in tens of thousands of fragments
TIMEOUTS = TimeoutSettings(handshake=10, connect=300, heartbeat=60, pong=30, write=30, close=1, drain=1)

# The compressed ones need an extension that is never agreed on.
LEFT_OUT = ["12.*", "13.*"]
# Large messages, which without the lane cost many seconds and prove little more; and those of them in tiny
# fragments, of which TLS does not change one.
LARGE_ONES = ["9.*"]
FRAGMENTED_ONES = ["9.3.*", "9.4.*"]

# {close code: cases where it is the echo that closes}; the others end with the client's own Close.
CLOSED_BY_US = {1002: 30, 1007: 75}
NO_CODE = ["7.3.1"]  # the client's Close has none, so neither has the answer
BAD_CLOSES = {  # {case: what a Close that may not be sent is answered with}
    "7.3.2": 1002,
    "7.3.6": 1002,
    "7.5.1": 1007,
    **{f"7.9.{number}": 1002 for number in range(1, 10)},
    "7.13.1": 1002,
    "7.13.2": 1002,
}


@define(eq=False)
class Echo:
    """An endpoint that returns every message as it came."""

    connection: Connection
    label: str = "echo"
    is_open: bool = True
    user: str | None = None
    outbox: Outbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(
            connection=1,
            max_messages=1 << 20,
            max_bytes=64 * MIB,
            max_notices=1 << 12,
            wake=self.connection.wake,
            overflow=lambda _: False,
        )

    def look_at_clock(self) -> float:
        return trio.current_time()

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        self.outbox.notify(encode_frame(Opcode.TEXT if is_text else Opcode.BINARY, payload))

    def refuse(self, payload: bytes, retry_after: float) -> None:
        raise AssertionError(f"asked too fast: {payload!r}, {retry_after}")

    def advance(self) -> None:
        pass

    def ping(self) -> bool:
        return False

    def fault(self, error: Exception) -> None:
        raise error

    def end(self, code: CloseCode, reason: str) -> None:
        self.connection.close(code, reason)

    def leave(self) -> None:
        pass

    def close(self) -> None:
        self.outbox.close()


@asynccontextmanager
async def terminate_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Forward a plain port to one that speaks TLS, for a program that does not."""

    async def pump(source: trio.abc.Stream, sink: trio.abc.Stream, done: trio.CancelScope | None) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        if done is not None:
            done.cancel()
        elif isinstance(sink, trio.SSLStream):
            with contextlib.suppress(trio.BrokenResourceError):
                await sink.transport_stream.send_eof()

    async def forward(plain: trio.SocketStream) -> None:
        transport = await trio.open_tcp_stream(HOST, port)
        async with plain, transport:
            encrypted = trio.SSLStream(transport, context, server_hostname=HOST, https_compatible=True)
            await encrypted.do_handshake()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, plain, encrypted, None)
                nursery.start_soon(pump, encrypted, plain, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, forward, 0, host=HOST))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def run_autobahn(port: int, left_out: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return {case: its report}."""
    kosoku = Path(sys.executable).parent / "kosoku"
    excluded = [part for case in left_out for part in ("-x", case)]
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(
            [str(kosoku), "-m", "fuzzingclient", "-p", "4", *excluded, "-o", str(folder), f"{HOST}:{port}"],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, done.stdout.decode()[-4000:]
    return read_reports(folder)


def read_reports(folder: Path) -> dict[str, dict[str, Any]]:
    reports = [json.loads(path.read_text()) for path in folder.glob("*.json") if path.name != "index.json"]
    return {report["id"]: report for report in reports}


@pytest.mark.parametrize(
    ("scheme", "lane", "left_out", "cases"),
    [
        ("ws", True, LEFT_OUT, 301),
        ("wss", True, LEFT_OUT + FRAGMENTED_ONES, 283),
        ("ws", False, LEFT_OUT + LARGE_ONES, 247),
        ("wss", False, LEFT_OUT + LARGE_ONES, 247),
    ],
    ids=["ws", "wss", "ws without lane", "wss without lane"],
)
async def test_autobahn(serve: Serve, tmp_path: Path, scheme: str, lane: bool, left_out: list[str], cases: int) -> None:
    async with serve(LARGE, TIMEOUTS, rates=RATES, lane=lane, open_endpoint=Echo) as running:
        if scheme == "ws":
            reports = await run_autobahn(running.ports["ws"], left_out, tmp_path)
        else:
            async with terminate_tls(running.ports["wss"], running.context) as port:
                reports = await run_autobahn(port, left_out, tmp_path)
    assert len(reports) == cases
    verdicts = {report["behavior"] for report in reports.values()}
    assert verdicts <= {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert {report["behaviorClose"] for report in reports.values()} <= {"OK", "INFORMATIONAL"}
    # How each connection ended: a Close of both sides, whatever happened, with the right code.
    assert [case for case, report in reports.items() if not report["wasClean"]] == []
    assert [case for case, report in reports.items() if report["remoteCloseCode"] is None] == NO_CODE
    ours = Counter(report["remoteCloseCode"] for report in reports.values() if not report["closedByMe"])
    assert ours == CLOSED_BY_US
    answers = {
        case: report["remoteCloseCode"]
        for case, report in reports.items()
        if report["closedByMe"] and report["remoteCloseCode"] != report["localCloseCode"]
    }
    assert answers == BAD_CLOSES

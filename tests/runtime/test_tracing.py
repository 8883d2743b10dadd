"""What `--trace` hears of what is sent: whole frames, however the bytes were cut."""

from __future__ import annotations

import pytest

from tercet_broker.runtime.tracing import LinkTracer
from tercet_protocol import Opcode, encode_frame


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_tracer_cuts_what_is_sent_into_frames(piece: int) -> None:
    """Of every length form (RFC 6455, 5.2), behind the response to the handshake."""
    heard: list[tuple[str, str, str, bytes]] = []
    tracer = LinkTracer(lambda *call: heard.append(call), "1-a")
    payloads = [b"", b"x" * 125, b"y" * 126, b"z" * 70_000]
    data = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n"
    data += b"".join(encode_frame(Opcode.TEXT, payload) for payload in payloads) + encode_frame(Opcode.PING, b"p")
    for at in range(0, len(data), piece):
        tracer.sent(data[at : at + piece])
    assert heard == [
        *(("1-a", "out", "text", payload) for payload in payloads),
        ("1-a", "out", "ping", b"p"),
    ]

"""The request head: an upgrade, a refusal or a peer that is gone; the same whole and in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import h11
from attrs import define

from tercet_broker.runtime.upgrade import MAX_HEAD, GoneError, Refusal, Upgrade, read_upgrade
from tercet_broker.runtime.wire import Wire

_GOOD = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_SLACK = 8 * 1024  # bytes that may be read beyond MAX_HEAD before h11 has had enough

WORDS = [
    *(b"Sec-WebSocket-Protocol: tercet.v1.json\r\n", b"Origin: https://x\r\n", b"Authorization: Bearer a.b\r\n"),
    *(b"X-Forwarded-For: 1.2.3.4\r\n", b"X-Forwarded-Proto: http\r\n", b"Content-Length: 0\r\n", b"HTTP/1.0", b"HEAD "),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"\r\n\r\n", b"\n\n", b"http://", b"?token=x"),
    *(b"/health", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"Cookie: ", b"eyJa.eyJa.a", b"\x16\x03\x01", b"POST "),
]
SEEDS = [b"\x00" + _GOOD + b"\r\n", b"\x03" + _GOOD + WORDS[0] + WORDS[1] + WORDS[2] + b"\r\n\x81\x80\0\0\0\0"]
SEEDS += [b"\x00GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x02GET /?token=x HTTP/1.1\r\nHost: x\r\n\r\n"]


@define(eq=False)
class _Fed:
    """A wire whose bytes are all there."""

    data: bytes
    step: int
    taken: int = 0

    async def receive(self, size: int) -> bytes:
        piece = self.data[self.taken : self.taken + min(size, self.step)]
        self.taken += len(piece)
        return piece


def run(data: bytes) -> None:
    """The first byte says how large the pieces are."""
    if not data:
        return
    head = data[1:]
    whole, taken = _outcome(head, 1 << 20)
    pieces, _ = _outcome(head, data[0] or 1)
    assert taken <= MAX_HEAD + _SLACK
    if isinstance(whole, Upgrade):
        assert isinstance(pieces, Upgrade)
        assert pieces.canonical_request() == whole.canonical_request()
        _check(whole, head)
    else:
        assert type(pieces) is type(whole), (whole, pieces)
    if isinstance(whole, Refusal):
        assert isinstance(pieces, Refusal)
        assert pieces.status == whole.status
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.receive_data(whole.response())
        response = client.next_event()
        assert isinstance(response, h11.Response)
        assert response.status_code == whole.status


def _outcome(head: bytes, step: int) -> tuple[Upgrade | Refusal | GoneError, int]:
    wire = _Fed(head, step)
    steps: Any = read_upgrade(cast("Wire", wire), "/", is_draining=lambda: False)
    try:
        steps.send(None)
    except StopIteration as result:
        return cast("Upgrade", result.value), wire.taken
    except (Refusal, GoneError) as error:
        return error, wire.taken
    raise AssertionError("it waits for more than there is")


def _check(upgrade: Upgrade, head: bytes) -> None:
    """What trio-websocket would see is one request without anything of the stranger's choice in it."""
    rebuilt = upgrade.canonical_request()
    assert rebuilt.isascii()
    assert rebuilt.count(b"\r\n\r\n") == 1
    assert len(list(_lines(rebuilt))) in {6, 7}
    assert head.endswith(upgrade.trailing)
    server = h11.Connection(h11.SERVER)
    server.receive_data(rebuilt)
    assert isinstance(server.next_event(), h11.Request)


def _lines(request: bytes) -> Iterator[bytes]:
    return (line for line in request.split(b"\r\n") if line)

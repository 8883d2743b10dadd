from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto.events import Pong

from tercet_broker.runtime import DaemonSettings, StreamWire
from tercet_broker.runtime.upgrade import MAX_HEAD, GoneError, Refusal, Upgrade, read_upgrade
from tercet_protocol import SUBPROTOCOL

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = [
    "GET / HTTP/1.1",
    "Host: x",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]


def joined(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def without(name: str) -> list[str]:
    return [line for line in GOOD if not line.lower().startswith(name.lower() + ":")]


def outcome(
    data: bytes, *, path: str = "/", is_draining: bool = False, cuts: int | None = None
) -> Upgrade | Refusal | GoneError:
    """Read a head that comes in one piece, or in pieces of `cuts` bytes, before the end of the stream."""

    async def main() -> Upgrade | Refusal | GoneError:
        client, server = trio.testing.memory_stream_pair()

        async def feed() -> None:
            size = cuts or len(data) or 1
            for start in range(0, len(data), size):
                await client.send_all(data[start : start + size])
                if cuts:
                    await trio.testing.wait_all_tasks_blocked()
            await client.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            try:
                return await read_upgrade(StreamWire(server), path, is_draining=lambda: is_draining)
            except (Refusal, GoneError) as error:
                return error
            finally:
                nursery.cancel_scope.cancel()

    return trio.run(main)


def status(data: bytes, **options: Any) -> int:
    found = outcome(data, **options)
    assert isinstance(found, Refusal), found
    return found.status


def test_upgrade_is_accepted() -> None:
    found = outcome(joined(GOOD))
    assert found == Upgrade(KEY, None, b"")


@pytest.mark.parametrize(
    "value", [SUBPROTOCOL, f"other, {SUBPROTOCOL}", f"{SUBPROTOCOL},other", f"a,{SUBPROTOCOL} ,b"], ids=repr
)
def test_upgrade_agrees_on_the_known_subprotocol(value: str) -> None:
    """C-001."""
    found = outcome(joined([*GOOD, f"Sec-WebSocket-Protocol: {value}"]))
    assert isinstance(found, Upgrade)
    assert found.subprotocol == SUBPROTOCOL
    assert f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode() in found.canonical_request()


def test_upgrade_takes_a_list_with_empty_elements() -> None:
    found = outcome(joined([*GOOD, f"Sec-WebSocket-Protocol: , {SUBPROTOCOL},"]))
    assert isinstance(found, Upgrade)
    assert found.subprotocol == SUBPROTOCOL


def test_upgrade_takes_a_whole_url_as_its_target() -> None:
    """RFC 9112, 3.2.2: a server must accept the absolute form."""
    head = joined(GOOD).replace(b"GET / ", b"GET http://broker.test/?a=b ")
    assert isinstance(outcome(head), Upgrade)


def test_upgrade_joins_subprotocols_of_several_headers() -> None:
    found = outcome(joined([*GOOD, "Sec-WebSocket-Protocol: other", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"]))
    assert isinstance(found, Upgrade)
    assert found.subprotocol == SUBPROTOCOL


@pytest.mark.parametrize("value", ["other", "tercet.v2.json", "Tercet.v1.json", "a, b"])
def test_upgrade_refuses_unknown_subprotocols_and_lists_the_known(value: str) -> None:
    """C-003."""
    found = outcome(joined([*GOOD, f"Sec-WebSocket-Protocol: {value}"]))
    assert isinstance(found, Refusal)
    assert found.status == 400
    assert SUBPROTOCOL.encode() in found.response().partition(b"\r\n\r\n")[2]


REFUSED: dict[str, tuple[int, bytes]] = {
    "another path": (404, joined(["GET /other HTTP/1.1", *GOOD[1:]])),
    "absolute form of another host's path": (404, joined(["GET http://x/y HTTP/1.1", *GOOD[1:]])),
    "plain request": (426, joined(GOOD[:2])),
    "post": (426, joined(["POST / HTTP/1.1", *GOOD[1:]])),
    "no upgrade": (426, joined(without("Upgrade"))),
    "other upgrade": (426, joined([*without("Upgrade"), "Upgrade: h2c"])),
    "no connection": (426, joined(without("Connection"))),
    "connection close": (426, joined([*without("Connection"), "Connection: close"])),
    "http 1.0": (400, joined(["GET / HTTP/1.0", *GOOD[1:]])),
    "body": (400, joined([*GOOD, "Content-Length: 5"])),
    "chunked": (400, joined([*GOOD, "Transfer-Encoding: chunked"])),
    "odd encoding": (501, joined([*GOOD, "Transfer-Encoding: gzip"])),
    "two lengths": (400, joined([*GOOD, "Content-Length: 5", "Content-Length: 6"])),
    "no version": (426, joined(without("Sec-WebSocket-Version"))),
    "version 8": (426, joined([*without("Sec-WebSocket-Version"), "Sec-WebSocket-Version: 8"])),
    "two versions": (426, joined([*GOOD, "Sec-WebSocket-Version: 13"])),
    "no key": (400, joined(without("Sec-WebSocket-Key"))),
    "empty key": (400, joined([*without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: "])),
    "short key": (400, joined([*without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: dGhl"])),
    "no base64": (400, joined([*without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ=="])),
    "non-ASCII key": (400, joined([*without("Sec-WebSocket-Key"), "Sec-WebSocket-Key: é" + KEY[1:]])),
    "two keys": (400, joined([*GOOD, f"Sec-WebSocket-Key: {KEY}"])),
    "empty subprotocol": (400, joined([*GOOD, "Sec-WebSocket-Protocol: "])),
    "non-ASCII subprotocol": (400, joined([*GOOD, f"Sec-WebSocket-Protocol: {SUBPROTOCOL}, ü"])),
    "obs-fold of the subprotocol": (400, joined([*GOOD, "Sec-WebSocket-Protocol: a\r\n b"])),
    "space before colon": (400, joined([*GOOD, "X : y"])),
    "non-ASCII header name": (400, joined([*GOOD, "X-é: y"])),
    "no host": (400, joined([GOOD[0], *GOOD[2:]])),
    "two hosts": (400, joined([*GOOD, "Host: y"])),
    "no http": (400, b"hello\r\n\r\n"),
    "TLS to a plain port": (400, bytes.fromhex("160301020001000001fc0303") + b"\r\n\r\n"),
    "huge head": (431, b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 4096)),
    "huge target": (431, b"GET /" + b"x" * (MAX_HEAD + 4096)),
    "very many headers": (431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000),
    "post health": (405, joined(["POST /health HTTP/1.1", "Host: x"])),
    "health": (200, joined(["GET /health HTTP/1.1", "Host: x"])),
    "health with a query": (200, joined(["GET /health?x=1 HTTP/1.1", "Host: x"])),
    "upgrade of health": (404, joined(["GET /health HTTP/1.1", *GOOD[1:]])),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_has_the_status_that_says_why(case: str) -> None:
    """C-004, C-005, C-006."""
    expected, data = REFUSED[case]
    found = outcome(data)
    assert isinstance(found, Refusal)
    assert found.status == expected, found.reason
    response = found.response()
    assert response.startswith(f"HTTP/1.1 {expected} ".encode())
    head, _, body = response.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"connection: close" in head.lower()


@pytest.mark.parametrize("case", [case for case, (_, data) in REFUSED.items() if len(data) < 1000])
def test_refusal_is_the_same_byte_by_byte(case: str) -> None:
    expected, data = REFUSED[case]
    assert status(data, cuts=1) == expected


@pytest.mark.parametrize("name", ["Host", "X", "Origin", "User-Agent", "Cookie", "Sec-WebSocket-Extensions"])
@pytest.mark.parametrize("value", ["é", "\xff\xfe", "xn--zz--", "xn--\xe9", "permessage-deflate; \xe9"])
def test_upgrade_does_not_mind_values_that_it_does_not_use(name: str, value: str) -> None:
    """trio-websocket ended the process for these; it does not get to see them."""
    found = outcome(joined([*without(name), f"{name}: {value}"]))
    assert isinstance(found, Upgrade)
    assert found.canonical_request().isascii()
    assert value.encode("latin-1") not in found.canonical_request()


@pytest.mark.parametrize("name", ["Connection", "Upgrade"])
def test_upgrade_finds_its_token_beside_non_ascii_ones(name: str) -> None:
    token = "Upgrade" if name == "Connection" else "websocket"
    assert isinstance(outcome(joined([*without(name), f"{name}: é, {token.upper()}"])), Upgrade)


def test_refusal_while_draining_says_when_to_come_back() -> None:
    found = outcome(joined(GOOD), is_draining=True)
    assert isinstance(found, Refusal)
    assert found.status == 503
    assert b"retry-after: 5\r\n" in found.response().lower()
    assert status(joined(["GET /health HTTP/1.1", "Host: x"]), is_draining=True) == 503
    assert status(joined(["GET /other HTTP/1.1", *GOOD[1:]]), is_draining=True) == 404


def test_upgrade_keeps_what_follows_the_head() -> None:
    found = outcome(joined(GOOD) + b"\x81\x80\1\2\3\4" + b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(found, Upgrade)
    assert found.trailing == b"\x81\x80\1\2\3\4" + b"GET / HTTP/1.1\r\n\r\n"


def test_upgrade_is_the_same_byte_by_byte() -> None:
    assert outcome(joined(GOOD), cuts=1) == Upgrade(KEY, None, b"")


@pytest.mark.parametrize("data", [b"", b"G", joined(GOOD)[:-1], joined(GOOD)[:-2]])
def test_peer_that_leaves_before_its_head_is_whole_is_gone(data: bytes) -> None:
    assert isinstance(outcome(data), GoneError)


LINES = st.one_of(
    st.sampled_from([line.encode() for line in GOOD]),
    st.sampled_from(
        ["Sec-WebSocket-Protocol: ", "Host: ", "Content-Length: ", "Transfer-Encoding: ", "Upgrade: "]
    ).flatmap(lambda name: st.binary(max_size=20).map(lambda value: name.encode() + value)),
    st.binary(max_size=40),
)
HEADS = st.one_of(
    st.binary(max_size=200),
    st.lists(LINES, max_size=10).map(lambda lines: b"\r\n".join([*lines, b"", b""])),
    st.lists(LINES, max_size=10).map(lambda lines: b"\r\n".join([joined(GOOD)[:-4], *lines, b"", b""])),
    st.lists(LINES, max_size=10).map(lambda lines: b"\n".join([b"GET /health HTTP/1.1", *lines, b"", b""])),
)


@given(HEADS, st.booleans())
def test_any_bytes_are_an_upgrade_a_refusal_or_a_peer_that_is_gone(data: bytes, is_draining: bool) -> None:
    found = outcome(data, is_draining=is_draining)
    if isinstance(found, Refusal):
        assert found.response().startswith(b"HTTP/1.1 ")
    elif isinstance(found, Upgrade):
        assert found.canonical_request().isascii()


# Through a whole daemon


@pytest.mark.parametrize("lane", [True, False])
async def test_frames_in_the_segment_of_the_head_are_served_after_the_response(
    serve: Serve, tools: Any, lane: bool
) -> None:
    """The 101 came behind the replies, because trio-websocket reads on before its request is accepted."""
    trailing = tools.say(op="connect", id=1) + tools.client_frame(9, b"x") + tools.say(op="ping", id=2)
    async with serve(lane=lane) as broker:
        peer = await broker.raw()
        await peer.shake_hands(trailing=trailing)
        await peer.expect("connected")
        assert await peer.frame() == Pong(b"x")
        await peer.expect("pong", id=2)


async def test_no_subprotocol_is_answered_with_none(serve: Serve) -> None:
    """C-002."""
    async with serve() as broker:
        peer = await broker.raw()
        assert (await peer.shake_hands(subprotocols=())).subprotocol is None
        await peer.connect()
        other = await broker.raw()
        assert (await other.shake_hands(subprotocols=("x", SUBPROTOCOL))).subprotocol == SUBPROTOCOL
        await other.connect()


@pytest.mark.parametrize(
    ("data", "seconds", "answer"),
    [
        (b"", 10.0, b"HTTP/1.1 408 "),
        (b"GET / HTTP/1.1\r\n", 10.0, b"HTTP/1.1 408 "),
        (b"x\r\n\r\n", 0.0, b"HTTP/1.1 400 "),
    ],
)
async def test_head_has_one_deadline(
    serve: Serve, autojump_clock: MockClock, data: bytes, seconds: float, answer: bytes
) -> None:
    async with serve() as broker:
        began = trio.current_time()
        peer = await broker.raw()
        await peer.raw(data)
        await peer.ended()
        assert trio.current_time() == began + seconds
        assert peer.received.startswith(answer)


async def test_head_byte_by_byte_does_not_extend_the_deadline(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve() as broker, trio.open_nursery() as nursery:
        began = trio.current_time()
        peer = await broker.raw()

        async def trickle() -> None:
            for byte in joined(GOOD) * 10:
                await peer.raw(bytes((byte,)))
                await trio.sleep(1)

        nursery.start_soon(trickle)
        await peer.ended()
        assert trio.current_time() == began + 10.0
        nursery.cancel_scope.cancel()


async def test_refused_peer_that_stays_is_cut(serve: Serve, autojump_clock: MockClock, logs: Logs) -> None:
    async with serve() as broker:
        began = trio.current_time()
        peer = await broker.raw()
        await peer.raw(b"nonsense\r\n\r\n")
        listener = broker.listener
        assert listener is not None
        await listener.accepted[0].closed.wait()
        assert trio.current_time() == began + DaemonSettings().timeouts.close
    assert [entry["status"] for entry in logs if entry["event"] == "handshake refused"] == [400]


async def test_health_is_answered(serve: Serve) -> None:
    """C-005."""
    async with serve() as broker:
        peer = await broker.raw()
        await peer.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.ended()
        assert peer.received.startswith(b"HTTP/1.1 200 ")
        assert peer.received.endswith(b"\r\n\r\nok\n")


async def test_head_request_gets_no_body(serve: Serve) -> None:
    async with serve() as broker:
        peer = await broker.raw()
        await peer.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await peer.ended()
        assert peer.received.startswith(b"HTTP/1.1 200 ")
        assert peer.received.endswith(b"\r\n\r\n")

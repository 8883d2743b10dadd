"""Hostile input from a seed, level by level: what the lists of attacks have not thought of.

Each function draws what one connection sends, in pieces. It is near enough to
what is right to get past the first check: a generator of mere noise is refused
by the first one, and tries nothing else.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator

TEXT, CLOSE, PING = 1, 8, 9
_FIN, _MASKED = 0x80, 0x80
_SIZES = (0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000)
_DECLARED = (0, 1, 125, 126, 65_535, 65_536, 1 << 20, 1 << 31, 1 << 32, 1 << 62, 1 << 63, (1 << 64) - 1)
_HEADERS = (
    b"Host", b"Upgrade", b"Connection", b"Origin", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Cookie",
    b"Authorization", b"X-Forwarded-For", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version", b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Extensions", b"sec-websocket-accept", b"",
)  # fmt: skip
_VALUES = (
    b"", b" ", b",", b",,,", b"websocket, websocket", b"Upgrade, keep-alive, close", b"13, 8", b"-1", b"0x10",
    b"chunked", b"permessage-deflate; client_max_window_bits=99", b"tercet.v1.json, \xff", b"xn--\x80", b"[::1",
    b"a" * 9000, b"Bearer \xff\xfe", b"Bearer " + b"x" * 5000, b"\x00", b"\t\x0b", b"https://\xe9.example",
    b"100-continue",
)  # fmt: skip
_NAMES = ("a", "b", "kept", "x", "$sys", "+", "#", "", "\x00", "\u202e", "\U0001f600", "y" * 300, "{user}", "..")
_NUMBERS = (0, 1, -1, 2, 3, 1000, 10_000, 10_001, 1 << 31, 1 << 53, 1 << 64, 1.5, 1e308, -0.0)
_EPOCHS = ("", "x", "0" * 12, "\x00", "e" * 65)
_OPS = (
    "connect", "subscribe", "unsubscribe", "publish", "history", "presence", "authenticate", "ping", "pong", "message",
    "error", "drain", "", "publish\x00",
)  # fmt: skip
_FIELDS = (
    "op", "id", "topic", "filter", "data", "key", "retain", "retained", "echo", "since", "last", "limit", "sub",
    "token", "client", "heartbeat", "unknown",
)  # fmt: skip


def masked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455, 5.3."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


def frame(draw: random.Random, opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """Return a frame that is right."""
    size, key = len(payload), draw.randbytes(4)
    if size < 126:
        length = bytes((_MASKED | size,))
    elif size < 1 << 16:
        length = struct.pack("!BH", _MASKED | 126, size)
    else:
        length = struct.pack("!BQ", _MASKED | 127, size)
    return bytes(((_FIN if fin else 0) | opcode,)) + length + key + masked(payload, key)


def request(draw: random.Random, fields: dict[str, object]) -> bytes:
    """Return the frame, or the fragments, of a request."""
    data = json.dumps(fields, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.8:
        return frame(draw, TEXT, data)
    cut = draw.randrange(len(data) + 1)
    first, last = frame(draw, TEXT, data[:cut], fin=False), frame(draw, 0, data[cut:])
    return first + (frame(draw, PING, b"") if draw.random() < 0.5 else b"") + last


# HTTP


def head(draw: random.Random, right: bytes) -> Iterator[bytes]:
    """A request head with some changes, cut into some pieces."""
    data = right
    for _ in range(draw.randrange(1, 4)):
        data = draw.choice(_HEAD_CHANGES)(draw, data)
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.randrange(3)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        yield data[start:end]


def _change_line(draw: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    at = draw.randrange(len(lines))
    lines[at : at + 1] = draw.choice(
        ([], [lines[at]] * 2, [lines[at] + b" \t"], [b" " + lines[at]], [lines[at].lower()])
    )
    return b"\r\n".join(lines)


def _add_line(draw: random.Random, data: bytes) -> bytes:
    first, separator, rest = data.partition(b"\r\n")
    colon = draw.choice((b": ", b":", b" : ", b"", b"=", b":\r\n "))
    return first + separator + draw.choice(_HEADERS) + colon + draw.choice(_VALUES) + b"\r\n" + rest


def _change_first_line(draw: random.Random, data: bytes) -> bytes:
    method = draw.choice((b"GET", b"get", b"POST", b"CONNECT", b"PRI", b"", b"G\x00T"))
    path = draw.choice(
        (b"/", b"*", b"//", b"/%00", b"/../", b"/?token=x", b"http://x/", b"/health", b"/" + b"x" * 9000, b"/\xff")
    )
    version = draw.choice((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 ", b"HTTP/9", b""))
    return b" ".join((method, path, version)) + b"\r\n" + data.partition(b"\r\n")[2]


def _change_bytes(draw: random.Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.randrange(3)) + data[at + draw.randrange(3) :]


def _change_ends(draw: random.Random, data: bytes) -> bytes:
    return data.replace(b"\r\n", draw.choice((b"\n", b"\r", b"\r\r\n", b"\r\n\r\n")), draw.randrange(1, 4))


def _add_body(draw: random.Random, data: bytes) -> bytes:
    return data + draw.choice((b"0\r\n\r\n", data, b"\x81", draw.randbytes(300), frame(draw, PING, b"early")))


_HEAD_CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _change_line, _add_line, _change_first_line, _change_bytes, _change_ends, _add_body,
)  # fmt: skip


# Frames


def frames(draw: random.Random) -> Iterator[bytes]:
    """Frames and fragments, most of them right, so that it does not end with the first."""
    for _ in range(draw.randrange(1, 30)):
        yield draw.choices((_right_frame, _fragments, _any_frame, _noise), (24, 8, 1, 0.2))[0](draw)


def _right_frame(draw: random.Random) -> bytes:
    opcode = draw.choice((TEXT, TEXT, PING, 10))
    size = draw.choice(_SIZES[:3] if opcode >= CLOSE else _SIZES)
    return frame(draw, opcode, b'{"op":"ping"}'.ljust(size) if opcode == TEXT else bytes(size))


def _fragments(draw: random.Random) -> bytes:
    parts = [frame(draw, TEXT, b'{"op":', fin=False)]
    parts += [frame(draw, draw.choice((0, 0, 0, PING)), b"", fin=False) for _ in range(draw.randrange(5))]
    return b"".join([*parts, frame(draw, 0, b'"ping"}')])


def _any_frame(draw: random.Random) -> bytes:
    """Any first two bytes, any way to write a length, and not always as much as it says."""
    size = draw.choice(_DECLARED)
    code, written = draw.choice(((126, "!H"), (127, "!Q")))
    length = struct.pack(written, size & (0xFFFF if code == 126 else (1 << 64) - 1))
    if draw.random() < 0.3:
        code, length = draw.randrange(126), b""
    second = (_MASKED if draw.random() < 0.9 else 0) | code
    return bytes((draw.randrange(256), second)) + length + draw.randbytes(draw.choice((0, 4, 4 + min(size, 70_000))))


def _noise(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(1, 200))


# JSON


def texts(draw: random.Random) -> Iterator[bytes]:
    """Text frames of nearly a request: any fields with values of any kind, cut, doubled or nested."""
    for _ in range(draw.randrange(1, 25)):
        fields = ",".join(f'"{draw.choice(_FIELDS)}":{_json(draw, 3)}' for _ in range(draw.randrange(6)))
        text = f'{{"op":"{draw.choice(_OPS)}",{fields}}}' if draw.random() < 0.8 else _json(draw, 5)
        data = text.encode("utf-8", "surrogatepass")
        if draw.random() < 0.03:
            data = _change_bytes(draw, data)
        yield frame(draw, TEXT, data)


def _json(draw: random.Random, depth: int) -> str:
    kind = draw.randrange(9 if depth else 6)
    if kind == 6:
        return "[" + ",".join(_json(draw, depth - 1) for _ in range(draw.randrange(4))) + "]"
    if kind == 7:
        return (
            "{" + ",".join(f'"{draw.choice("abab")}":{_json(draw, depth - 1)}' for _ in range(draw.randrange(4))) + "}"
        )
    if kind == 8:
        levels = draw.choice((10, 499, 501, 5000))
        return "[" * levels + "]" * (levels - (draw.random() < 0.1))
    return (
        draw.choice(("null", "true", "false", "NaN", "Infinity", "nul", "")),
        repr(draw.choice(_NUMBERS)),
        "-" * draw.randrange(2)
        + "9" * draw.choice((1, 20, 400, 5000))
        + draw.choice(("", ".5", "e5", "e99999", "E+", ".")),
        json.dumps(draw.choice(_NAMES)),
        draw.choice((r'"\ud800"', r'"\u0000"', r'"\x"', '"\t"', '"', '"\U0010ffff"', '"' + "z" * 5000 + '"')),
        json.dumps("/".join(draw.choice(_NAMES) for _ in range(draw.randrange(20)))),
    )[kind]


# Semantics


def requests(draw: random.Random) -> Iterator[bytes]:
    """Requests with fields of the right types, and values at the edges; ids collide, and so do keys."""
    for _ in range(draw.randrange(1, 80)):
        fields = draw.choice(_REQUESTS)(draw)
        if "id" not in fields and draw.random() < 0.8:
            fields["id"] = draw.randrange(1, 12)
        yield request(draw, fields)


def _path(draw: random.Random) -> str:
    """A topic or filter, nearly always of a namespace of our own: the canary's is not for publishing."""
    levels = [draw.choice(("a", "b", "kept", "kept", "kept", "x"))]
    levels += draw.choices(_NAMES, (9, 9, 3, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1), k=draw.randrange(4))
    return draw.choice(("#", "+/#", "$sys/#")) if draw.random() < 0.05 else "/".join(levels)


def _position(draw: random.Random) -> dict[str, object]:
    return {"epoch": draw.choice(_EPOCHS), "seq": draw.choice(_NUMBERS)}


def _subscribe(draw: random.Random) -> dict[str, object]:
    fields: dict[str, object] = {"op": "subscribe", "id": draw.randrange(1, 12), "filter": _path(draw)}
    start = draw.random()
    if start < 0.5:
        fields["last"] = draw.choice((0, 1, 100, 10_000, 10_000, *_NUMBERS))
    elif start < 0.8:
        fields["since"] = _position(draw)
    if draw.random() < 0.3:
        fields["retained"] = draw.random() < 0.5
    return fields


def _publish(draw: random.Random) -> dict[str, object]:
    data: object = draw.choice((None, 1, "x" * draw.choice((1, 2000, 60_000)), [[]], {"op": "live", "sub": 1}))
    fields: dict[str, object] = {"op": "publish", "topic": _path(draw), "data": data}
    if draw.random() < 0.5:
        fields["key"] = draw.choice(
            ("k" * 16, "l" * 64, "m" * 15, "n" * 65, "\x00" * 16, f"{draw.getrandbits(80):020d}")
        )
    for name in ("retain", "echo"):
        if draw.random() < 0.4:
            fields[name] = draw.random() < 0.5
    return fields


def _history(draw: random.Random) -> dict[str, object]:
    fields: dict[str, object] = {"op": "history", "filter": _path(draw), "limit": draw.choice(_NUMBERS)}
    if draw.random() < 0.5:
        fields["since"] = _position(draw)
    return fields


_REQUESTS: tuple[Callable[[random.Random], dict[str, object]], ...] = (
    _subscribe,
    _subscribe,
    _publish,
    _publish,
    _publish,
    _history,
    lambda draw: {"op": "unsubscribe", "sub": draw.randrange(1, 12)},
    lambda draw: {"op": draw.choice(("ping", "pong", "presence", "connect", "authenticate")), "topic": _path(draw)},
    lambda _: {"op": "ping"},
)

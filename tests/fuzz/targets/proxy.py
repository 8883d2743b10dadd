"""PROXY headers of both versions: read exactly, or refused; the same whole and in pieces."""

from __future__ import annotations

from tercet_broker.runtime.proxy_protocol import MAX_V2, ProxyHeader, ProxyHeaderError, ProxyHeaderReader

_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_MOST = 16 + MAX_V2

WORDS = [_V2, b"\x21\x11\x00\x0c", b"\x20\x00\x00\x00", b"\x21\x21\x00\x24", b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN"]
WORDS += [b"1.2.3.4 ", b"::1 ", b"65535", b"\r\n", b"\xff\xff"]
SEEDS = [
    b"\x01PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\n\x16\x03\x01",
    b"\x02PROXY TCP6 ::1 2001:db8::1 1 2\r\nGET /",
    b"\x03PROXY UNKNOWN\r\n",
    b"\x05" + _V2 + b"\x21\x11\x00\x0c\1\2\3\4\5\6\7\x08\0\1\0\2rest",
    b"\x07" + _V2 + b"\x21\x21\x00\x24" + bytes(36),
    b"\x00" + _V2 + b"\x20\x00\x00\x00",
]


def run(data: bytes) -> None:
    """The first byte says how large the pieces are at most."""
    if not data:
        return
    stream = data[1:]
    whole = _read(stream, _MOST)
    assert _read(stream, data[0] or 1) == whole
    if isinstance(whole, tuple) and whole[0].address is not None:
        assert 0 <= whole[0].port <= 0xFFFF


def _read(stream: bytes, most: int) -> tuple[ProxyHeader, int] | str | None:
    """Return the header and how many bytes it had, "refused", or None if it is not whole."""
    reader, at = ProxyHeaderReader(), 0
    try:
        while reader.wanted:
            piece = stream[at : at + min(reader.wanted, most)]
            if not piece:
                return None
            reader.feed(piece)
            at += len(piece)
            assert at <= _MOST
    except ProxyHeaderError as error:
        assert str(error).isprintable()
        return "refused"
    assert reader.header is not None
    return reader.header, at

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.runtime.proxy_protocol import MAX_V2, ProxyHeader, ProxyHeaderError, ProxyHeaderReader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4, V6 = ipaddress.IPv4Address("192.0.2.1"), ipaddress.IPv6Address("2001:db8::1")


def v2(command: int, family: int, body: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes((version << 4 | command, family)) + struct.pack("!H", len(body)) + body


def tcp4(extensions: bytes = b"") -> bytes:
    return v2(1, 0x11, V4.packed + bytes(4) + struct.pack("!HH", 4711, 443) + extensions)


RIGHT = {
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n": ProxyHeader(V4, 4711),
    b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n": ProxyHeader(V6, 4711),
    b"PROXY UNKNOWN\r\n": ProxyHeader(),
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": ProxyHeader(),
    tcp4(): ProxyHeader(V4, 4711),
    tcp4(b"\x04\x00\x01x"): ProxyHeader(V4, 4711),
    v2(1, 0x21, V6.packed + bytes(16) + struct.pack("!HH", 4711, 443)): ProxyHeader(V6, 4711),
    v2(0, 0, b""): ProxyHeader(),
    v2(0, 0x11, bytes(12)): ProxyHeader(),
    v2(1, 0x31, bytes(216)): ProxyHeader(),
    v2(1, 0x12, bytes(12)): ProxyHeader(),
}

WRONG = [
    b"PROXY \r\n\r!!\x00",  # found by the fuzzer: in one piece it was waited on, in single bytes refused
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
    b"PROXY TCP4 2001:db8::1 10.0.0.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 443\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 -443\r\n",
    b"PROXY TCP4  192.0.2.1 10.0.0.1 4711 443\r\n",
    b"PROXY TCP5 192.0.2.1 10.0.0.1 4711 443\r\n",
    b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\r\n",
    b"PROXY UNKNOWN" + b" " * 200 + b"\r\n",
    b"PROXYTCP4 192.0.2.1 10.0.0.1 4711 443\r\n",
    v2(1, 0x11, bytes(11)),
    v2(2, 0x11, bytes(12)),
    v2(1, 0x11, bytes(12), version=1),
    v2(1, 0x11, bytes(MAX_V2 + 1)),
]


def read(data: bytes, sizes: list[int] | None = None) -> tuple[ProxyHeader | None, bytes]:
    """Return the header and what is left, reading no more than is wanted."""
    reader, sizes = ProxyHeaderReader(), list(sizes or [])
    while data and reader.header is None:
        wanted = reader.wanted
        assert wanted > 0
        count = min(wanted, sizes.pop(0)) if sizes else wanted
        reader.feed(data[:count])
        data = data[count:]
    return reader.header, data


@pytest.mark.parametrize("header", RIGHT)
@pytest.mark.parametrize("sizes", [[], [1] * 300], ids=["whole", "bytewise"])
def test_header_is_read_and_nothing_behind_it(header: bytes, sizes: list[int]) -> None:
    behind = b"\r\n\x16\x03\x01"
    assert read(header + behind, sizes) == (RIGHT[header], behind)


@pytest.mark.parametrize("data", WRONG)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(data)


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(SIGNATURE.__add__)
    | st.binary(max_size=300).map(b"PROXY ".__add__)
    | st.text(alphabet="PROXYTCP46UNKNOW 0123456789.:\r\n", max_size=150).map(lambda text: b"PROXY " + text.encode()),
    st.lists(st.integers(1, 20), max_size=50),
)
def test_any_bytes_are_a_header_or_refused(data: bytes, sizes: list[int]) -> None:
    """In pieces as in one; never anything but the one error, and never more than is bounded."""

    def outcome(sizes: list[int]) -> object:
        try:
            return read(data, sizes)
        except ProxyHeaderError as error:
            return str(error)

    assert outcome(sizes) == outcome([])


@given(st.ip_addresses(v=4), st.integers(0, 0xFFFF))
def test_both_versions_say_the_same(address: ipaddress.IPv4Address, port: int) -> None:
    one = b"PROXY TCP4 %s 10.0.0.1 %d 443\r\n" % (str(address).encode(), port)
    two = v2(1, 0x11, address.packed + bytes(4) + struct.pack("!HH", port, 443))
    assert read(one) == read(two) == (ProxyHeader(address, port), b"")

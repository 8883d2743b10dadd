"""The grammar of `bind`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.runtime.address import AddressError, TcpAddress, UnixAddress, parse_bind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("[0:0:0:0:0:0:0:1]:1", TcpAddress("::1", 1)),
        ("localhost:80", TcpAddress("localhost", 80)),
        ("broker-1.example.org:80", TcpAddress("broker-1.example.org", 80)),
        ("unix:/run/tercet.sock", UnixAddress("/run/tercet.sock")),
    ],
)
def test_parse_bind_forms(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_bind(text) == address
    assert parse_bind(str(address)) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("8080", "'127.0.0.1:8080'"),
        (":8080", "'0.0.0.0:8080'"),
        ("*:8080", "'127.0.0.1:8080'"),
        ("localhost:", "'' is no port"),
        ("localhost:http", "'http' is no port"),
        ("localhost:65536", "no port"),
        ("localhost:-1", "no port"),
        ("localhost:1_0", "no port"),
        ("localhost:٣", "no port"),
        ("localhost: 80", "no port"),
        ("::1:8080", "brackets"),
        ("[::1:8080", "brackets"),
        ("[::g]:8080", "no IPv6 address"),
        ("[127.0.0.1]:8080", "no IPv6 address"),
        ("127.0.0.256:80", "no IPv4 address"),
        ("127.1:80", "no IPv4 address"),
        ("0177.0.0.1:80", "no IPv4 address"),
        ("local host:80", "neither an IP address"),
        ("-x:80", "neither an IP address"),
        ("a..b:80", "neither an IP address"),
        ("ws://127.0.0.1:8080/", "'127.0.0.1:8080'"),
        ("unix:", "absolute"),
        ("unix:tercet.sock", "absolute"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("unix:/a\0b", "zero byte"),
    ],
)
def test_parse_bind_refuses(text: str, says: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_bind(text)
    assert says in str(caught.value)


@given(st.text())
def test_parse_bind_raises_nothing_else(text: str) -> None:
    try:
        address = parse_bind(text)
    except AddressError:
        return
    assert parse_bind(str(address)) == address


@pytest.mark.parametrize(
    ("bind", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.255.0.9:1", True),
        ("[::1]:1", True),
        ("LocalHost:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("128.0.0.1:1", False),
        ("10.0.0.1:1", False),
        ("[::ffff:127.0.0.1]:1", False),
        ("localhost.example.org:1", False),
        ("0x7f000001:1", False),
    ],
)
def test_address_is_loopback(bind: str, *, loopback: bool) -> None:
    """Whatever is not plainly loopback counts as public."""
    assert parse_bind(bind).is_loopback is loopback

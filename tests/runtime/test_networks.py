from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.runtime.networks import forwarded_client, is_within, parse_address, parse_network, site_of

PROXIES = (parse_network("10.0.0.0/8"), parse_network("fd00::/8"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [("10.0.0.1/8", "did you mean '10.0.0.0/8'"), ("example.org", "is no network"), ("10.0.0.0/33", "is no network")],
)
def test_network_that_is_none(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_network(text)


def test_mapped_address_is_the_ipv4_address() -> None:
    """Else a dual-stack listener would count one client twice, and trust no IPv4 proxy."""
    assert parse_address("::ffff:10.1.2.3") == ipaddress.IPv4Address("10.1.2.3")
    assert is_within(parse_address("::ffff:10.1.2.3"), PROXIES)


def test_ipv6_counts_by_site() -> None:
    one, other = parse_address("2001:db8:1:2::1"), parse_address("2001:db8:1:2:ffff:ffff:ffff:ffff")
    stranger = parse_address("2001:db8:1:3::1")
    assert one is not None
    assert other is not None
    assert stranger is not None
    assert site_of(one) == site_of(other) == bytes.fromhex("20010db800010002")
    assert site_of(stranger) != site_of(one)
    assert site_of(ipaddress.IPv4Address("192.0.2.1")) == bytes((192, 0, 2, 1))


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1, 10.0.0.9"], "192.0.2.1"),
        (["192.0.2.1", "10.0.0.9"], "192.0.2.1"),
        # What the client wrote itself stands left of what the first proxy saw.
        (["198.51.100.7, 192.0.2.1, 10.0.0.9"], "192.0.2.1"),
        (["spoofed, 192.0.2.1"], "192.0.2.1"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["2001:db8::1"], "2001:db8::1"),
        (["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
        (["unknown"], None),
        (["192.0.2.1, unknown"], None),
        ([""], None),
        ([], None),
    ],
)
def test_forwarded_client(values: list[str], client: str | None) -> None:
    found = forwarded_client(values, PROXIES)
    assert (None if found is None else str(found)) == client


@given(st.lists(st.text(max_size=60), max_size=50))
def test_any_header_is_read(values: list[str]) -> None:
    forwarded_client(values, PROXIES)


@given(st.text(alphabet="0123456789abcdef.:, []", max_size=200), st.ip_addresses())
def test_client_cannot_hide_behind_what_it_writes(written: str, client: ipaddress.IPv4Address) -> None:
    """Whatever a client sends, the entry that the trusted proxy appends decides."""
    seen = parse_address(str(client))
    if not is_within(seen, PROXIES):
        assert forwarded_client([f"{written}, {client}"], PROXIES) == seen

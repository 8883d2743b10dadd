"""Wrong tokens are charged to their address."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tercet_broker.runtime.failures import Failures

ONE, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def test_address_pauses_after_its_failures_and_no_other_does() -> None:
    failures = Failures(limit=3)
    for _ in range(3):
        assert failures.pause(ONE, 0.0) == 0
        failures.note(ONE, 0.0)
    assert failures.pause(ONE, 0.0) == pytest.approx(20)
    assert failures.pause(OTHER, 0.0) == 0
    assert failures.pause(ONE, 20.0) == 0
    assert failures.refused == 1


def test_network_of_one_customer_is_one_address() -> None:
    failures = Failures(limit=1)
    failures.note(ip_address("2001:db8::1"), 0.0)
    assert failures.pause(ip_address("2001:db8::2"), 0.0) > 0
    assert failures.pause(ip_address("2001:db8:0:1::1"), 0.0) == 0


def test_peer_without_an_address_is_not_charged() -> None:
    failures = Failures(limit=1)
    failures.note(None, 0.0)
    assert failures.pause(None, 0.0) == 0


def test_changed_limit_holds_from_the_next_failure() -> None:
    failures = Failures(limit=1)
    failures.note(ONE, 0.0)
    failures.limit = 60
    failures.note(ONE, 0.0)
    assert failures.pause(ONE, 0.0) == pytest.approx(2)


def test_memory_is_bounded() -> None:
    failures = Failures(limit=1)
    failures.note(ONE, 0.0)
    for number in range(10_000):
        failures.note(ip_address(0x0A000000 + number), 0.0)
    assert failures.pause(ONE, 0.0) == 0, "the oldest one is forgotten"

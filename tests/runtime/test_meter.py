from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core.identity import ANONYMOUS, Identity
from tercet_broker.runtime.meter import AbuseError, Bucket, Meter, Meters
from tercet_broker.runtime.settings import RateSettings

SLOW = RateSettings(requests=10, requests_burst=20, frames=10, frames_burst=20, user_factor=2, wait=2, abuse=30)

ANN, BOB = Identity(user="ann"), Identity(user="bob")


def test_requests_over_the_rate_wait() -> None:
    meter = Meter(Meters(SLOW), 0.0, ANONYMOUS)
    assert meter.room(512) == 20
    meter.served(20, 0.0)
    assert meter.pause(0.0) == pytest.approx(0.1)
    assert meter.pause(0.1) == 0
    assert meter.room(512) == 1
    meter.served(1, 0.1)
    assert meter.pause(0.1) == pytest.approx(0.1)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), max_size=50))
def test_bucket_gives_no_more_than_its_rate_and_burst(steps: list[tuple[int, float]]) -> None:
    bucket, now, taken = Bucket(10, 20, 0.0), 0.0, 0
    for count, later in steps:
        now += later
        if not bucket.wait(count, now):
            bucket.take(count, now)
            taken += count
    assert taken <= 20 + 10 * now + 1e-6


def test_users_connections_share() -> None:
    meters = Meters(SLOW)
    one, other = (Meter(meters, 0.0, ANN) for _ in range(2))
    stranger = Meter(meters, 0.0, BOB)
    for meter in (one, other, stranger):
        meter.served(1, 0.0)  # `connect`: now it is known who they are
    one.served(19, 0.0)
    other.served(19, 0.0)
    assert one.pause(2.0) == other.pause(2.0) == 0
    one.served(20, 2.0)
    other.served(20, 2.0)
    assert one.pause(2.0) > 0
    assert stranger.pause(2.0) == 0


def test_pings_over_the_rate_are_abuse() -> None:
    meter = Meter(Meters(SLOW), 0.0, ANONYMOUS)
    for _ in range(20):
        meter.odd_frame(0.0)
    with pytest.raises(AbuseError):
        meter.odd_frame(0.0)
    assert meter.shared.counters.closed == 1


def test_refusals_without_a_pause_are_abuse() -> None:
    meter = Meter(Meters(SLOW), 0.0, ANONYMOUS)
    for second in range(0, 30, 2):
        meter.read(100, second)
        assert meter.refuse(second) == 2
    meter.read(100, 30)
    with pytest.raises(AbuseError):
        meter.refuse(30)


def test_refusals_with_a_pause_are_none() -> None:
    meter = Meter(Meters(SLOW), 0.0, ANONYMOUS)
    for second in range(0, 60, 4):
        meter.read(100, second)
        meter.refuse(second)
        meter.read(100, second + 2)
    assert meter.shared.counters.closed == 0


def test_bytes_over_the_rate_wait() -> None:
    settings = evolve(SLOW, bytes=65536.0, bytes_burst=65536.0)
    meter = Meter(Meters(settings), 0.0, ANONYMOUS)
    meter.read(2 * 65536, 0.0)
    assert meter.pause(0.0) == pytest.approx(1.0)
    assert meter.pause(1.0) == 0


def test_other_rates_hold_at_once_for_open_connections() -> None:
    """Faster and slower, for the connection and for its user; what it has saved stays, up to the other burst."""
    meters = Meters(SLOW)
    meter = Meter(meters, 0.0, ANN)
    meter.served(20, 0.0)
    meters.change(evolve(SLOW, requests=1000, requests_burst=1000))
    assert meter.pause(0.0) == pytest.approx(0.001)
    meter.served(1000, 1.0)
    assert meter.pause(1.0) == pytest.approx(0.001)
    meters.change(evolve(SLOW, requests=1, requests_burst=2))
    assert meter.pause(5.0) == 0
    assert meter.room(512) == 2, "not what the rate before has saved"
    meter.served(2, 5.0)
    assert meter.pause(5.0) == pytest.approx(1.0)


def test_other_rates_hold_for_what_a_users_connections_share() -> None:
    meters = Meters(SLOW)
    one, other = (Meter(meters, 0.0, ANN) for _ in range(2))
    for meter in (one, other):
        meter.served(1, 0.0)
    meters.change(evolve(SLOW, requests=100, requests_burst=1))
    assert other.pause(1.0) == 0
    one.served(2, 1.0)
    assert other.pause(1.0) == pytest.approx(1 / 200), "two at once are for them all, and 200 a second"


def test_other_patience_holds_at_once() -> None:
    meters = Meters(SLOW)
    meter = Meter(meters, 0.0, ANONYMOUS)
    assert not meter.is_overdue(1.0)
    meters.change(evolve(SLOW, wait=0.5))
    assert meter.is_overdue(1.0)
    assert meter.refuse(1.0) == 0.5

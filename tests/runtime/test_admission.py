from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.runtime.admission import Admission, Ticket, Turned, TurnedAwayError
from tercet_broker.runtime.settings import ConnectionSettings

ONE, OTHER = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("192.0.2.2")


def books(**limits: int) -> Admission:
    return Admission(ConnectionSettings(**limits))


def turned_away(admission: Admission, why: Turned) -> int:
    return admission.statistics().turned_away[why]


def test_open_handshakes_are_bounded_overall_and_by_address() -> None:
    admission = books(handshakes=4, handshakes_per_address=2)
    tickets = [admission.enter(ONE), admission.enter(ONE)]
    with pytest.raises(TurnedAwayError) as caught:
        admission.enter(ONE)
    assert caught.value.why is Turned.ADDRESS_HANDSHAKES
    assert caught.value.retry_after > 0
    tickets += [admission.enter(OTHER), admission.enter(None)]
    with pytest.raises(TurnedAwayError) as caught:
        admission.enter(OTHER)
    assert caught.value.why is Turned.HANDSHAKES
    admission.leave(tickets[0])
    admission.leave(tickets[1])
    admission.enter(ONE)
    assert turned_away(admission, Turned.HANDSHAKES) == turned_away(admission, Turned.ADDRESS_HANDSHAKES) == 1


def test_some_addresses_do_not_keep_all_others_out_of_handshakes() -> None:
    """Whoever comes next finds some that are free: nobody has more than that."""
    admission = books(handshakes=32, handshakes_per_address=8)
    had = []
    for number in range(8):
        address, count = ipaddress.ip_address(f"192.0.2.{number}"), 0
        with suppress(TurnedAwayError):
            while True:
                admission.enter(address)
                count += 1
        had.append(count)
    assert had == [8, 8, 8, 4, 2, 1, 1, 0]
    assert turned_away(admission, Turned.ADDRESS_HANDSHAKES) == 6


def test_connections_are_bounded_overall_and_by_address() -> None:
    admission = books(total=3, per_address=2)

    def come(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Ticket:
        ticket = admission.enter(address)
        try:
            admission.establish(ticket, address)
        except TurnedAwayError:
            admission.leave(ticket)
            raise
        return ticket

    first = come(ONE)
    come(ONE)
    with pytest.raises(TurnedAwayError, match="from this address"):
        come(ONE)
    come(OTHER)
    with pytest.raises(TurnedAwayError, match="its limit"):
        come(OTHER)
    admission.leave(first)
    admission.leave(first)
    come(ONE)
    statistics = admission.statistics()
    assert (statistics.connections, statistics.handshakes, statistics.addresses, statistics.accepted) == (3, 0, 2, 6)


def test_memory_ceiling_has_a_margin() -> None:
    admission = books()
    assert not admission.look_at_memory(1000, 1000)
    assert admission.look_at_memory(1001, 1000)
    ticket = admission.enter(ONE)
    with pytest.raises(TurnedAwayError, match="memory"):
        admission.establish(ticket, ONE)
    assert not admission.look_at_memory(960, 1000)
    assert admission.look_at_memory(950, 1000)
    admission.establish(ticket, ONE)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60))
def test_books_are_empty_when_all_have_left(steps: list[tuple[int, int]]) -> None:
    """Whatever happens in between: a slot that leaks is lost until the next restart."""
    admission = books(total=4, per_address=2, handshakes=3, handshakes_per_address=2)
    addresses = [None, ONE, OTHER, ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("2001:db8::2"), ONE]
    tickets: list[Ticket] = []
    for what, number in steps:
        try:
            if what == 0:
                tickets.append(admission.enter(addresses[number]))
            elif tickets:
                ticket = tickets[number % len(tickets)]
                if what == 1 and not ticket.is_established:
                    admission.locate(ticket, addresses[number])
                elif what == 2 and not ticket.is_established:
                    admission.establish(ticket, addresses[number])
                elif what == 3:
                    admission.leave(ticket)
                    tickets.remove(ticket)
        except TurnedAwayError:
            pass
        assert 0 <= admission.handshakes <= 3
        assert 0 <= admission.connections <= 4
    for ticket in tickets:
        admission.leave(ticket)
    statistics = admission.statistics()
    assert (statistics.handshakes, statistics.connections, statistics.addresses) == (0, 0, 0)
    # An address is free again, too.
    admission.enter(ONE)
    admission.enter(ONE)

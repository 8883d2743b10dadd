"""How many connections there may be: overall, from one address, and still in their handshakes.

A connection comes in by three doors, and may be turned away at each:

    accept       as many open handshakes as there may be: dropped, with a 503 where that costs no waiting
    request      503 when the broker is full or short of memory, 429 for too many of one address
    `connect`    1013 for too many of one user (core/users.py)

An IPv6 address counts as its /64 network, which is what one customer has. A
peer without an address (a Unix socket, a stream) counts overall alone, and so
does a trusted proxy until it has said for whom it speaks.
"""

from __future__ import annotations

import enum
from collections import Counter

from attrs import define, field, frozen

from .networks import IpAddress, site_of
from .settings import ConnectionSettings

RETRY_FULL = 5.0  # seconds: as a client's own backoff would come to after some attempts
RETRY_ADDRESS = 10.0  # likewise, longer: others are not to blame


class Turned(enum.StrEnum):
    """Why a connection was turned away; each has a counter."""

    HANDSHAKES = "handshakes"  # too many open ones
    ADDRESS_HANDSHAKES = "address_handshakes"  # too many open ones from this address
    TOTAL = "total"  # too many connections
    ADDRESS = "address"  # too many from this address
    MEMORY = "memory"  # the process is at its ceiling
    ORIGIN = "origin"  # a browser's page that is not on the list, or no page where one is wanted
    DRAINING = "draining"  # a planned stop
    REQUEST = "request"  # no request to become a WebSocket that could be granted
    TIMEOUT = "timeout"  # no whole request in time
    TLS = "tls"  # no TLS handshake
    PROXY = "proxy"  # a trusted proxy sent no PROXY header


@frozen
class AdmissionStatistics:
    """A copy of the counts.

    Attributes:
        handshakes: open ones.
        connections: established ones.
        addresses: how many addresses those are from.
        accepted: connections accepted so far.
        paced: how many of them had to wait because there were too many in a second.
        turned_away: {why: how many so far}.
        resident_bytes: of the process, when last looked at; 0 where that is not known.
    """

    handshakes: int
    connections: int
    addresses: int
    accepted: int
    paced: int
    turned_away: dict[Turned, int]
    resident_bytes: int


class TurnedAwayError(Exception):
    """The connection may not go on.

    Attributes:
        why: which limit.
        retry_after: seconds after which it may.
    """

    def __init__(self, why: Turned, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.why = why
        self.retry_after = retry_after


@define(eq=False)
class Ticket:
    """One connection's entries in the books; `Admission` writes it."""

    site: bytes | None = None
    is_established: bool = False
    is_gone: bool = False


@define(eq=False)
class Admission:
    """The books of all connections of a daemon.

    Attributes:
        settings: may be replaced at any time; who is in stays in.
        turned: {why: how many were turned away}.
        paced: how many connections had to wait because there were too many in a second.
        is_short_of_memory: whether newcomers are turned away because the process is too large.
    """

    settings: ConnectionSettings = field(factory=ConnectionSettings)
    turned: Counter[Turned] = field(factory=Counter, repr=False)
    is_short_of_memory: bool = False
    resident_bytes: int = 0
    accepted: int = 0
    paced: int = 0
    handshakes: int = 0
    connections: int = 0
    _handshakes_from: Counter[bytes] = field(factory=Counter, repr=False)
    _connections_from: Counter[bytes] = field(factory=Counter, repr=False)

    def enter(self, address: IpAddress | None) -> Ticket:
        """Count a connection that was accepted; `address` is None as long as it is not known.

        Raises:
            TurnedAwayError: there are too many open handshakes.
        """
        self.accepted += 1
        if self.handshakes >= self.settings.handshakes:
            raise self._turn_away(Turned.HANDSHAKES, "too many connections are being opened", 1.0)
        ticket = Ticket()
        self.handshakes += 1
        try:
            self.locate(ticket, address)
        except TurnedAwayError:
            self.handshakes -= 1
            raise
        return ticket

    def locate(self, ticket: Ticket, address: IpAddress | None) -> None:
        """Note where an open handshake comes from, as a proxy has said it.

        Raises:
            TurnedAwayError: there are too many open handshakes from there.
        """
        self._forget_site(ticket)
        if address is None:
            return
        site = site_of(address)
        # Nobody has more of them than are still free (as in core/keys.py): some addresses cannot keep all others out.
        share = min(self.settings.handshakes_per_address, self.settings.handshakes - self.handshakes + 1)
        if self._handshakes_from[site] >= share:
            raise self._turn_away(
                Turned.ADDRESS_HANDSHAKES, "too many connections are being opened from this address", RETRY_ADDRESS
            )
        self._handshakes_from[site] += 1
        ticket.site = site

    def establish(self, ticket: Ticket, address: IpAddress | None) -> None:
        """Let a connection through whose request is right.

        Raises:
            TurnedAwayError: the broker is full, short of memory, or has enough of this address.
        """
        settings = self.settings
        if self.is_short_of_memory:
            raise self._turn_away(Turned.MEMORY, "the broker is short of memory", RETRY_FULL)
        if self.connections >= settings.total:
            raise self._turn_away(Turned.TOTAL, f"the broker has {settings.total} connections, its limit", RETRY_FULL)
        site = None if address is None else site_of(address)
        if site is not None and self._connections_from[site] >= settings.per_address:
            raise self._turn_away(
                Turned.ADDRESS, f"there are {settings.per_address} connections from this address", RETRY_ADDRESS
            )
        self._forget_site(ticket)
        self.handshakes -= 1
        self.connections += 1
        ticket.is_established, ticket.site = True, site
        if site is not None:
            self._connections_from[site] += 1

    def leave(self, ticket: Ticket) -> None:
        """Forget a connection. Idempotent."""
        if ticket.is_gone:
            return
        ticket.is_gone = True
        if ticket.is_established:
            self.connections -= 1
            _uncount(self._connections_from, ticket.site)
        else:
            self.handshakes -= 1
            self._forget_site(ticket)

    def look_at_memory(self, resident_bytes: int, ceiling: int) -> bool:
        """Note the size of the process; return whether that has changed whether newcomers are let in.

        They are again once it is a twentieth below the ceiling, so that it does not go to and fro.
        """
        self.resident_bytes = resident_bytes
        was = self.is_short_of_memory
        self.is_short_of_memory = resident_bytes > (ceiling * 19 // 20 if was else ceiling)
        return was != self.is_short_of_memory

    def statistics(self) -> AdmissionStatistics:
        """Return the counts as they are now."""
        return AdmissionStatistics(
            handshakes=self.handshakes,
            connections=self.connections,
            addresses=len(self._connections_from),
            accepted=self.accepted,
            paced=self.paced,
            turned_away={why: self.turned[why] for why in Turned},
            resident_bytes=self.resident_bytes,
        )

    def _turn_away(self, why: Turned, message: str, retry_after: float) -> TurnedAwayError:
        self.turned[why] += 1
        return TurnedAwayError(why, f"{message}; come back later", retry_after)

    def _forget_site(self, ticket: Ticket) -> None:
        _uncount(self._handshakes_from, ticket.site)
        ticket.site = None


def _uncount(counter: Counter[bytes], key: bytes | None) -> None:
    if key is None:
        return
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]

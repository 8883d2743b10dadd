"""What a daemon counts: copies, frozen, and every limit's counter among them."""

from __future__ import annotations

from attrs import frozen

from ..core import BrokerStatistics
from .admission import AdmissionStatistics


@frozen
class ConnectionStatistics:
    """A copy of one connection's counts. Its deliveries are in the session of the same name (`label`).

    Attributes:
        label: how logs and the peer call the connection.
        peer: its address, and the proxy's if there is one.
        user: who it is; None is anonymous.
        seconds: since it was accepted.
        messages_in: requests that it has sent.
        bytes_in: bytes that it has sent, behind the request head.
        bytes_out: bytes that it was sent.
    """

    label: str
    peer: str
    user: str | None
    seconds: float
    messages_in: int
    bytes_in: int
    bytes_out: int


@frozen
class RateStatistics:
    """What the rates have done so far, over all connections.

    Attributes:
        delayed: how often a connection was not read from for a while.
        refused: requests answered with `rate_limited`.
        closed: connections closed with 1008.
    """

    delayed: int
    refused: int
    closed: int


@frozen(kw_only=True)
class DaemonStatistics(BrokerStatistics):
    """A copy of all counts: the broker's, and those of its doors.

    Attributes:
        connections: established ones, oldest first.
        admission: how many there are, and how many were turned away, by reason.
        rates: what was asked too fast.
        users: users that are connected.
        tokens_refused: tokens that were not looked at, because too many wrong ones had come from their address.
        users_refused: connections refused because their user had enough.
        accept_pauses: how often accepting stopped for want of descriptors or memory.
        reloads: successful ones.
    """

    connections: tuple[ConnectionStatistics, ...]
    admission: AdmissionStatistics
    rates: RateStatistics
    users: int
    tokens_refused: int
    users_refused: int
    accept_pauses: int
    reloads: int

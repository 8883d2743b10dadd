"""The books: what became of every delivery.

A delivery is one copy of a message to one connection. It is counted when it
is offered, or when a replay reads it from the log, and from then on

    offered == delivered + conflated + dropped + queued

holds at every moment, for each connection and for each namespace. *Delivered*
means that the socket took the last byte of its frame.
"""

from __future__ import annotations

import enum

from attrs import define, frozen


class DropReason(enum.StrEnum):
    """Why a delivery was dropped."""

    OVERFLOW = "overflow"  # the connection was too slow
    CLOSED = "closed"  # the connection ended before the socket took it


@frozen
class AccountStatistics:
    """A copy of an account, in deliveries."""

    offered: int
    delivered: int
    conflated: int
    dropped: dict[DropReason, int]
    queued: int

    @property
    def balanced(self) -> bool:
        """Whether the books add up. They always do; the tests ask after every step."""
        return self.offered == self.delivered + self.conflated + sum(self.dropped.values()) + self.queued


@define(eq=False)
class Account:
    """The running counts of one connection or one namespace."""

    offered: int = 0
    delivered: int = 0
    conflated: int = 0
    overflowed: int = 0
    closed: int = 0
    queued: int = 0

    def drop(self, reason: DropReason, count: int = 1) -> None:
        """Count deliveries that had been offered, and are not queued, as dropped."""
        if reason is DropReason.OVERFLOW:
            self.overflowed += count
        else:
            self.closed += count

    def statistics(self) -> AccountStatistics:
        """Return the counts as they are now."""
        return AccountStatistics(
            offered=self.offered,
            delivered=self.delivered,
            conflated=self.conflated,
            dropped={DropReason.OVERFLOW: self.overflowed, DropReason.CLOSED: self.closed},
            queued=self.queued,
        )

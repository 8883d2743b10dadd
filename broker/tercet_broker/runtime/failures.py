"""Failed authentications of each address: who guesses tokens is not listened to for a while.

A failure ends its connection, so that a connection's own rate says nothing
about it; the address is what stays. Like everywhere, an IPv6 address counts
as its /64 network, and a peer without an address is not counted.
"""

from __future__ import annotations

from attrs import define, field

from .meter import Bucket
from .networks import IpAddress, site_of

_SITES = 10_000  # remembered; beyond it the one that has failed longest ago is forgotten
_MINUTE = 60.0


@define(eq=False)
class Failures:
    """The books on failed authentications.

    Attributes:
        limit: how many one address may have in a minute; may be changed at any time.
        refused: tokens that were not looked at so far, because of it.
    """

    limit: int
    refused: int = 0
    _buckets: dict[bytes, Bucket] = field(factory=dict, init=False, repr=False)  # the one that failed last is last

    def pause(self, address: IpAddress | None, now: float) -> float:
        """Return for how many seconds no token from there is looked at; 0 nearly always. What is not 0 is counted."""
        bucket = None if address is None else self._buckets.get(site_of(address))
        pause = 0.0 if bucket is None else bucket.wait(1, now)
        if pause > 0:
            self.refused += 1
        return pause

    def note(self, address: IpAddress | None, now: float) -> None:
        """Charge a failure."""
        if address is None:
            return
        site = site_of(address)
        bucket = self._buckets.pop(site, None) or Bucket(self.limit / _MINUTE, self.limit, now)
        bucket.rate, bucket.burst = self.limit / _MINUTE, self.limit
        bucket.take(1, now)
        self._buckets[site] = bucket
        if len(self._buckets) > _SITES:
            del self._buckets[next(iter(self._buckets))]

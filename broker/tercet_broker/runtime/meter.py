"""How much a connection may ask for: token buckets for its requests, its bytes, and its frames that are neither.

What is over the rate waits: the connection is not read from, so that the
peer's own socket fills, and everything stays in order. A request that has
waited for `wait` seconds is answered with `rate_limited`; who goes on like
that for `abuse` seconds is closed with 1008. Pings, pongs and fragments cost
far more than they are worth to anyone, and waiting would hold up what stands
behind them: beyond their rate the connection is closed with 1008 at once.

Requests are charged by the batch and bytes by the chunk, so that a message
costs nothing here. All connections of one user share a second set of
buckets, some times as large.

Other settings hold at once, for connections that are open as well: a meter is
asked for its `pause` before anything is served, and takes them there. Only a
pause that has begun is as long as it was.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

from attrs import define, field

from .settings import RateSettings

_ROUNDING = 1e-6  # tokens; with less than that missing, waiting might not move the clock


@define(eq=False)
class Bucket:
    """Tokens that come at a rate, up to a burst. It may be overdrawn; then it has to be waited for.

    `take` does not look at the clock while there are tokens, so that what it
    costs is a subtraction: after a pause there may be twice the burst. Who
    minds calls `fill` first.
    """

    rate: float
    burst: float
    at: float
    tokens: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Fill it."""
        self.tokens = self.burst

    def take(self, count: float, now: float) -> None:
        """Take so many tokens. What has come in is looked up only when that matters."""
        self.tokens -= count
        if self.tokens < 0:
            self.fill(now)

    def fill(self, now: float) -> None:
        """Add what has come in since the last time."""
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now

    def change(self, rate: float, burst: float, now: float) -> None:
        """Go on at another rate, with what has come in so far, and no more than the other burst."""
        self.fill(now)
        self.rate, self.burst, self.tokens = rate, burst, min(burst, self.tokens)

    def wait(self, count: float, now: float) -> float:
        """Return the seconds until `count` tokens are there."""
        if self.tokens < count:
            self.fill(now)
        missing = count - self.tokens
        return missing / self.rate if missing > _ROUNDING else 0.0


@define(eq=False, weakref_slot=True)
class Buckets:
    """One set.

    Attributes:
        settings: what it was made from, or changed to.
    """

    requests: Bucket
    bytes: Bucket
    frames: Bucket
    settings: RateSettings

    @classmethod
    def full(cls, settings: RateSettings, now: float) -> Buckets:
        """Return a full set."""
        # (They share the numbers of the settings: a float of its own takes as much memory as half a bucket.)
        return cls(
            Bucket(settings.requests, settings.requests_burst, now),
            Bucket(settings.bytes, settings.bytes_burst, now),
            Bucket(settings.frames, settings.frames_burst, now),
            settings,
        )

    def change(self, settings: RateSettings, now: float) -> None:
        """Go on with other settings."""
        self.requests.change(settings.requests, settings.requests_burst, now)
        self.bytes.change(settings.bytes, settings.bytes_burst, now)
        self.frames.change(settings.frames, settings.frames_burst, now)
        self.settings = settings


@define(eq=False)
class RateCounters:
    """What the rates have done, over all connections: delays, refused requests, connections closed."""

    delayed: int = 0
    refused: int = 0
    closed: int = 0


@define(eq=False)
class Meters:
    """What all meters of a daemon share.

    Attributes:
        settings: of one connection; `change` replaces them.
        of_user: the same for all connections of one user.
        counters: what the rates have done.
    """

    settings: RateSettings = field(factory=RateSettings)
    of_user: RateSettings = field(init=False)
    counters: RateCounters = field(factory=RateCounters)
    _users: WeakValueDictionary[str, Buckets] = field(factory=WeakValueDictionary, repr=False)

    def __attrs_post_init__(self) -> None:
        """Work out what users may ask for."""
        self.of_user = self.settings.of_user()

    def change(self, settings: RateSettings) -> None:
        """Have other settings hold from now on; each meter takes them before it next lets anything pass."""
        self.settings, self.of_user = settings, settings.of_user()

    def user(self, name: str, now: float) -> Buckets:
        """Return the buckets of a user, which exist as long as a connection of theirs does."""
        buckets = self._users.get(name)
        if buckets is None:
            buckets = self._users[name] = Buckets.full(self.of_user, now)
        return buckets


class Somebody(Protocol):
    """Whose connection is metered: its endpoint."""

    @property
    def user(self) -> str | None:
        """Who it is, once that is known; None is anonymous."""


class AbuseError(Exception):
    """Theirs: over the rate, and for too long."""


@define(eq=False)
class Meter:
    """The meter of one connection.

    Attributes:
        whose: tells whose connection it is, once that is known.
        messages_in: messages that it has sent so far.
        bytes_in: bytes that it has sent so far, behind the request head.
    """

    shared: Meters
    began: float
    whose: Somebody = field(repr=False)
    messages_in: int = 0
    bytes_in: int = 0
    _own: Buckets = field(init=False, repr=False)
    _theirs: Buckets | None = field(default=None, init=False, repr=False)  # the user's
    _read_at: float = field(init=False)
    _refused_since: float | None = None
    _has_refused: bool = False  # something of what was read last

    def __attrs_post_init__(self) -> None:
        """Fill the buckets."""
        self._own = Buckets.full(self.shared.settings, self.began)
        self._read_at = self.began

    def read(self, size: int, now: float) -> None:
        """Charge a chunk that was read."""
        self.bytes_in += size
        self._own.bytes.take(size, now)
        if self._theirs is not None:
            self._theirs.bytes.take(size, now)
        self._read_at = now
        if not self._has_refused:
            self._refused_since = None
        self._has_refused = False

    def served(self, count: int, now: float) -> None:
        """Charge a batch of messages."""
        self.messages_in += count
        self._own.requests.take(count, now)
        if self._theirs is not None:
            self._theirs.requests.take(count, now)
        elif (user := self.whose.user) is not None:
            self._theirs = self.shared.user(user, now)

    def room(self, most: int) -> int:
        """Return how many requests may be served now, `most` at most. To be called when `pause` says 0."""
        room = self._own.requests.tokens
        if self._theirs is not None:
            room = min(room, self._theirs.requests.tokens)
        return most if room >= most else max(1, int(room))

    def pause(self, now: float) -> float:
        """Return for how many seconds nothing of this connection may be served or read; 0 nearly always."""
        own, theirs = self._own, self._theirs
        if own.settings is not self.shared.settings:
            own.change(self.shared.settings, now)
        if theirs is not None and theirs.settings is not self.shared.of_user:
            theirs.change(self.shared.of_user, now)
        if own.requests.tokens >= 1 and own.bytes.tokens >= 0 and theirs is None:
            return 0.0
        pause = max(own.requests.wait(1, now), own.bytes.wait(0, now))
        if theirs is not None:
            pause = max(pause, theirs.requests.wait(1, now), theirs.bytes.wait(0, now))
        if pause > 0:
            self.shared.counters.delayed += 1
        return pause

    def is_overdue(self, now: float) -> bool:
        """Whether what was read has waited for so long that the rest of it is refused."""
        return now - self._read_at >= self.shared.settings.wait

    def refuse(self, now: float) -> float:
        """Count a refused request, and return when to try again, in seconds.

        Raises:
            AbuseError: this has been going on for too long.
        """
        self._has_refused = True
        self.messages_in += 1
        self.shared.counters.refused += 1
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= self.shared.settings.abuse:
            self.shared.counters.closed += 1
            raise AbuseError(f"over its rate of requests for {self.shared.settings.abuse:g} s")
        return self.shared.settings.wait

    def odd_frame(self, now: float) -> None:
        """Charge a ping, a pong or a fragment.

        Raises:
            AbuseError: there are too many.
        """
        for buckets in (self._own, self._theirs):
            if buckets is None:
                continue
            buckets.frames.take(1, now)
            if buckets.frames.tokens < 0:
                self.shared.counters.closed += 1
                raise AbuseError(f"over {self.shared.settings.frames:g} pings, pongs and fragments a second")

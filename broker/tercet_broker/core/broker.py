"""The broker: all namespaces, and the sessions of all connections.

Everything here is synchronous, so in Trio each call is one step: no other
task sees half of it, and none of it can be cancelled half way. It never
waits, has no clock, no randomness and no I/O; what it needs of these it is
given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from attrs import define, evolve, field, frozen

from tercet_protocol import ErrorCode, Filter, Limits, is_reserved, split_topic
from tercet_protocol.topics import MAX_BYTES, MAX_LEVELS

from .access import Access, Review
from .accounting import Account, AccountStatistics
from .changeover import Change, Changeover
from .errors import RefusedError
from .fanout import FanOut
from .identity import Arrival
from .keys import KeyMemory, Owner, Shares
from .matching import FilterIndex
from .moment import Entropy, Moment
from .namespace import FULL_RETRY, Namespace, NamespaceStatistics
from .outbox import Outbox
from .retained import RetainedValues, Total
from .rules import Rules
from .session import Carrier, Session, SessionStatistics
from .settings import BrokerSettings, LimitSettings, NamespaceSettings, Overflow
from .users import Users


def _told(limits: LimitSettings) -> Limits:
    """Return what `connected` tells of the limits."""
    return Limits(
        message_bytes=limits.message_bytes,
        subscriptions=limits.subscriptions,
        topic_bytes=MAX_BYTES,
        topic_levels=MAX_LEVELS,
        last=limits.last,
        key_seconds=limits.key_seconds,
    )


def _per_topic(settings: NamespaceSettings) -> int:
    return 0 if settings.history is None else settings.history.per_topic


_EPOCH_BITS = 48  # a reader can tell two epochs apart at a glance, and two broker lives will not share one

_MAX_PLACES = 16_384  # topics whose check is remembered
_SWEPT_AT_ONCE = 64  # namespaces in one step
_LOOKED_AT_ONCE = 1024  # sessions in one step
_LAPSED_AT_ONCE = 64  # sessions that end in one step, because their token has expired


@frozen
class BrokerStatistics:
    """A copy of the broker's counts."""

    sessions: tuple[SessionStatistics, ...]
    namespaces: tuple[NamespaceStatistics, ...]
    opened: int

    @property
    def accounts(self) -> tuple[AccountStatistics, ...]:
        """All books, of sessions and of namespaces."""
        return (*(item.account for item in self.sessions), *(item.account for item in self.namespaces))


def _at_once(step: Callable[[], None]) -> None:
    step()


@define(eq=False)
class Broker:
    """All that is shared between connections.

    Attributes:
        settings: see `BrokerSettings`.
        entropy: where epochs and the names of connections come from.
        server: how it introduces itself in `connected`.
        heartbeat: what `connected` promises of pings, in seconds; keeping it is the runtime's.
        access: who may come in, and do what; changed by `set_access` and `set_rules`.
        begin_reading: called in the step of a request that reads from the log, with what does the first page of that:
            does it, or leaves it to the next turn.
        changeover: which sessions have not complied with that yet.
        epoch: the epoch of all its sequences, which live as long as it does.
        fan_out: what was published and is not in the queues yet.
        spanning: the index of filters that span namespaces.
        users: how many connections each user has.
        is_draining: whether publishes are refused because it is about to stop.
    """

    settings: BrokerSettings
    entropy: Entropy = field(repr=False)
    server: str = "tercet"
    heartbeat: float = 25.0
    access: Access = field(factory=Access, repr=False)
    begin_reading: Callable[[Callable[[], None]], object] = field(default=_at_once, init=False, repr=False)
    epoch: str = field(init=False)
    fan_out: FanOut = field(factory=FanOut, init=False, repr=False)
    spanning: FilterIndex[Outbox] = field(factory=FilterIndex, init=False, repr=False)
    users: Users = field(factory=Users, init=False, repr=False)
    is_draining: bool = field(default=False, init=False)
    told_limits: Limits = field(init=False, repr=False)
    _namespaces: dict[str, Namespace] = field(factory=dict, init=False, repr=False)
    _places: dict[str, Namespace] = field(factory=dict, init=False, repr=False)  # {topic: where it lies}, a cache
    _unnamed: Shares = field(init=False, repr=False)
    _lost: int = field(default=0, init=False)  # how many sequences were forgotten
    _swept_at: float = field(default=-math.inf, init=False)
    _retained: Total = field(factory=Total, init=False, repr=False)
    _sessions: dict[int, Session] = field(factory=dict, init=False, repr=False)  # {connection: session}
    changeover: Changeover = field(init=False, repr=False)
    _opened: int = field(default=0, init=False)
    _expiring: dict[int, Session] = field(factory=dict, init=False, repr=False)  # those that end by themselves

    def __attrs_post_init__(self) -> None:
        """Begin an epoch, and lay out the configured namespaces."""
        self.epoch = f"{self.entropy.getrandbits(_EPOCH_BITS):0{_EPOCH_BITS // 4}x}"
        self.told_limits = _told(self.settings.limits)
        self.changeover = Changeover(self._sessions)
        self._unnamed = Shares(self.settings.unnamed_limit)
        for name, settings in self.settings.namespaces.items():
            self._make_namespace(name, settings)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions there are now, oldest first."""
        return tuple(self._sessions.values())

    def open(self, carrier: Carrier, arrival: Arrival | None = None) -> Session:
        """Return a new session for a connection; `Session.leave` ends it."""
        self._opened += 1
        label = f"{self._opened}-{self.entropy.getrandbits(32):08x}"
        session = Session(self, carrier, self._opened, label, arrival or Arrival())
        self._sessions[self._opened] = session
        return session

    def forget(self, session: Session) -> None:
        """Take a session off the list; for `Session.leave` only."""
        self._sessions.pop(session.connection, None)
        self._expiring.pop(session.connection, None)

    # Who may come in, and do what

    def set_rules(self, rules: Rules) -> None:
        """Let other rules apply from now on.

        Nothing that they forbid is served or delivered any more. Subscriptions
        that they do not allow end with `unsubscribed` and `forbidden`, one
        session after the other (`Changeover`); everything else goes on.
        """
        self._change(Change(evolve(self.access, rules=rules)))

    def set_access(self, access: Access, review: Review, moment: Moment) -> None:
        """Let others in from now on: as `set_rules`, and besides, who is known no longer is closed with 3000."""
        self._change(Change(access, review, moment))

    def _change(self, change: Change) -> None:
        self.changeover.release()
        self.fan_out.settle()  # what was published before goes to those who might have it then
        self.access = change.access
        self.spanning.invalidate()  # what topics have cached of who gets them
        self.changeover.begin(change)

    def note_expiry(self, session: Session) -> None:
        """Note whether a session ends by itself, and when; for the session only."""
        if session.lapses_at < math.inf:
            self._expiring[session.connection] = session
        else:
            self._expiring.pop(session.connection, None)

    # Namespaces

    def namespace(self, name: str, owner: Owner = 0) -> Namespace:
        """Return the namespace of that name, which begins to exist if it may; `owner` has it from their share.

        Raises:
            RefusedError: `forbidden` if only configured namespaces exist,
                `unavailable` if there are as many as there may be, or too many of this owner's.
        """
        namespace = self._namespaces.get(name)
        if namespace is not None:
            return namespace
        if is_reserved(name):
            raise RefusedError(ErrorCode.UNSUPPORTED, f"this broker publishes nothing below {name!r}")
        settings = self.settings.unnamed
        if settings is None:
            raise RefusedError(
                ErrorCode.FORBIDDEN,
                f"there is no namespace {name!r}, and this broker has only configured ones",
            )
        if not self._unnamed.may_take(owner):
            self._forget_namespaces()
        if not self._unnamed.may_take(owner):
            raise RefusedError(
                ErrorCode.UNAVAILABLE,
                f"there are {self._unnamed.held} namespaces already, too many of them yours; "
                f"use one of those, or have {name!r} configured",
                retry_after=FULL_RETRY,
            )
        self._unnamed.take(owner)
        return self._make_namespace(name, settings, owner)

    def namespace_of_topic(self, topic: str, owner: Owner = 0) -> Namespace:
        """Return the namespace in which a topic lies, after checking that it may be published to.

        Raises:
            TopicError: it is not a topic.
            RefusedError: it is the broker's own (`forbidden`), or as `namespace` does.
        """
        namespace = self._places.get(topic)
        if namespace is not None:
            return namespace
        first = split_topic(topic)[0]
        if is_reserved(first):
            raise RefusedError(ErrorCode.FORBIDDEN, f"topics below {first!r} are the broker's own")
        namespace = self.namespace(first, owner)
        if len(self._places) >= _MAX_PLACES:
            self._places.clear()
        self._places[topic] = namespace
        return namespace

    def namespace_of(self, filter_: Filter, owner: Owner = 0) -> Namespace | None:
        """Return the namespace in which a filter lies, None if it spans them; raises as `namespace` does."""
        return None if filter_.namespace is None else self.namespace(filter_.namespace, owner)

    def _make_namespace(self, name: str, settings: NamespaceSettings, founder: Owner = 0) -> Namespace:
        keys = KeyMemory(self.settings.limits.key_seconds, settings.keys)
        # Which names had a sequence that was forgotten is not remembered: whatever begins after that is another epoch.
        epoch = f"{self.epoch}.{self._lost}" if self._lost else self.epoch
        namespace = Namespace(
            name,
            epoch,
            settings,
            self.spanning,
            self.fan_out,
            self.changeover,
            keys,
            retained=RetainedValues(self._retained),
            max_retained_bytes=self.settings.limits.retained_bytes,
            founder=founder,
        )
        self._namespaces[name] = namespace
        return namespace

    def _forget_namespaces(self) -> None:
        """Make room by letting go of namespaces that keep nothing of use, and in which nobody listens.

        Should one come back in which something was published, it has another epoch.
        """
        self.fan_out.settle()
        self._places.clear()
        lost = False
        for name, namespace in list(self._namespaces.items()):
            if name not in self.settings.namespaces and namespace.is_forgettable(self._swept_at):
                del self._namespaces[name]
                self._unnamed.give_back(namespace.founder)
                lost = lost or namespace.log.head > 0
        self._lost += lost

    def reconfigure(self, settings: BrokerSettings) -> tuple[str, ...]:
        """Take other settings, in one step; return what of them waits for a restart.

        Limits hold for what is asked from now on, those of the outbox for connections that open from now on. A
        namespace that is named no more becomes one of the unnamed, with what it holds; where there are none, it
        stays as it is.
        """
        waiting = []
        limits = settings.limits
        if limits.key_seconds != self.settings.limits.key_seconds:
            waiting.append("limits.key_seconds")  # clients were told, and rely on it
            limits = evolve(limits, key_seconds=self.settings.limits.key_seconds)
        for name, namespace in self._namespaces.items():
            wanted = settings.namespaces.get(name, settings.unnamed)
            if wanted is None:
                waiting.append(f"namespace.{name}, which is to end")
            elif _per_topic(wanted) != _per_topic(namespace.settings):
                waiting.append(f"namespace.{name}: history.per_topic")  # its log is laid out for it
            elif (wanted.policy is Overflow.CONFLATE) != namespace.conflates:
                waiting.append(f"namespace.{name}: overflow")  # subscribers were told whether it conflates
            else:
                namespace.reconfigure(wanted)
            namespace.max_retained_bytes = limits.retained_bytes
        self.settings = evolve(settings, limits=limits)
        self.told_limits = _told(limits)
        for name, wanted in settings.namespaces.items():
            if name not in self._namespaces:
                self._make_namespace(name, wanted)
        self._unnamed = Shares(settings.unnamed_limit)
        for name, namespace in self._namespaces.items():
            if name not in settings.namespaces:
                self._unnamed.take(namespace.founder)
        return tuple(waiting)

    def sweep(self, now: float) -> Iterator[None]:
        """Let go of what has become too old by `now`, and tell positions. To be iterated over every second or so.

        What it does between two items is one step, short enough for others to wait for.
        """
        self._swept_at = now
        self.fan_out.settle()
        lapsed = [session for session in self._expiring.values() if session.lapses_at <= now]
        for number, session in enumerate(lapsed, 1):
            if session.lapses_at <= now:  # it may have been renewed meanwhile
                session.lapse()
            if not number % _LAPSED_AT_ONCE:
                yield
        for number, session in enumerate(self.sessions, 1):
            outbox = session.outbox
            if outbox.size or outbox.slow_since is not None:  # asked here: nearly all have nothing queued
                session.look(now)
            if not number % _LOOKED_AT_ONCE:
                yield
        for number, namespace in enumerate(tuple(self._namespaces.values()), 1):
            head = namespace.log.head  # who is told of that is done, whatever is published meanwhile
            while namespace.sweep(now, head):
                yield
            if not number % _SWEPT_AT_ONCE:
                yield

    def drain(self, retry_after: Callable[[], float]) -> Iterator[None]:
        """Refuse publishes from now on; the iterator announces the end to one session at each step.

        `retry_after` returns the seconds that the next session shall wait
        before it comes back. The steps are the caller's, because each costs
        as much as the session has namespaces.
        """
        self.is_draining = True
        self.fan_out.settle()
        return self._announce_drain(retry_after)

    def _announce_drain(self, retry_after: Callable[[], float]) -> Iterator[None]:
        for session in self.sessions:
            if not session.is_ended:
                session.announce_drain(retry_after())
            yield

    def reopen(self) -> None:
        """Serve again after a stop or a crash, with the same epochs, logs, retained values and keys.

        What a broker remembers outlives the sessions; they do not outlive
        their connections. Here is the place of a durable history: what it
        reads when it starts is a broker in this state.

        Raises:
            ValueError: there are sessions, so somebody is being served by it.
        """
        if self._sessions:
            raise ValueError(f"{len(self._sessions)} sessions of this broker have not ended")
        self.fan_out.settle()
        self.is_draining = False

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield the running books of every session and namespace, each with its name.

        What is published and not settled yet (`FanOut`) is in none of them.
        """
        for session in self._sessions.values():
            yield session.label, session.outbox.account
        for namespace in self._namespaces.values():
            yield namespace.name, namespace.account

    def statistics(self) -> BrokerStatistics:
        """Return the counts as they are now."""
        self.fan_out.settle()
        return BrokerStatistics(
            sessions=tuple(session.statistics() for session in self._sessions.values()),
            namespaces=tuple(namespace.statistics() for namespace in self._namespaces.values()),
            opened=self._opened,
        )

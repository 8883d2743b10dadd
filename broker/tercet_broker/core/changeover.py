"""A change of who may come in, and do what: in force as of one step, and carried out session by session.

To look at every subscription of ten thousand sessions, and to tell those who
lose some, takes long. So the step of the change only says that there is one.
From then on each session *complies*, at the latest

- before it is served a request, a page of a replay or of the log, or told a
  position (`Session.comply`), and
- when its turn comes in `steps`, which goes through all of them.

What is published meanwhile is for those subscriptions alone that stand under
the new rules (`targets`), so nobody can tell that the others have not ended yet:
they get nothing more, and `unsubscribed` comes before anything that could be
taken for theirs. The one case in which something could is a connection that has
one of each kind for the same topic. For it the message waits until it has
complied, and so does all that comes behind it (withheld.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from tercet_protocol import Filter

from .access import Access, Review
from .identity import Identity
from .moment import Moment
from .rules import UNKNOWN, Action, Grants, Names, both
from .withheld import Withheld

if TYPE_CHECKING:
    from .log import Record
    from .outbox import Outbox
    from .session import Session
    from .topic import Topic

Hits = Iterable[tuple[Filter, Iterable["Outbox"]]]
"""Filters that match a topic, and whose subscriptions they are."""


@frozen
class Change:
    """One change: what is in force from then on. Without a review everybody stays who they are."""

    access: Access
    review: Review | None = None
    moment: Moment | None = None


@frozen
class Outlook:
    """What changes come to for a session that has not complied with them.

    Attributes:
        identity: who it is.
        grants: what it may do after each of the changes, None for everything. The last ones are in force; but a
            subscription has ended as soon as one change has forbidden it, whatever came later.
    """

    identity: Identity
    grants: list[Grants | None]

    def stands(self, filter_: Filter) -> bool:
        """Tell whether a subscription goes on."""
        return all(grants is None or grants.covers(Action.SUBSCRIBE, filter_) for grants in self.grants)

    def who(self, filter_: Filter, topic: Topic) -> Names:
        """Return whose subscription goes on, and gets a topic's messages."""
        found: Names = None
        for grants in self.grants:
            if grants is not None:
                found = both(found, grants.who_is_covered(Action.SUBSCRIBE, filter_))
        last = self.grants[-1]
        return found if last is None else both(found, last.who_is_allowed(Action.SUBSCRIBE, topic.name, topic.levels))


@define(eq=False)
class Changeover:
    """The sessions that have not complied yet.

    Attributes:
        sessions: {connection: session}, the broker's.
        soon: called to have `steps` gone through soon; without it, that is done in the step of the change.
        at_once: subscriptions that are looked at in one step. Each may have to end, at some 10 µs.
        generation: how many changes there were; a session that has the same number has complied.
        is_open: whether there may be sessions that have not.
        withheld: what waits for those that have not.
    """

    sessions: Mapping[int, Session] = field(repr=False)
    soon: Callable[[], object] | None = None
    at_once: int = 256
    generation: int = 0
    is_open: bool = False
    withheld: Withheld = field(factory=Withheld, repr=False)
    _waiting: dict[Topic, dict[Outbox, None]] = field(factory=dict, repr=False)  # {topic: for whom its messages wait}
    _changes: list[Change] = field(factory=list, repr=False)  # the last ones: all that some session has not heard of

    def begin(self, change: Change) -> None:
        """Put something else into force."""
        self.generation += 1
        self._changes.append(change)
        self.is_open = True
        if self.soon is not None:
            self.soon()
            return
        for _ in self.steps():
            pass

    def since(self, generation: int) -> list[Change]:
        """Return the changes that a session of a generation has not heard of."""
        return self._changes[generation - self.generation :] if generation < self.generation else []

    def steps(self) -> Iterator[None]:
        """Have all sessions comply; to be iterated over, with others' turns between two items."""
        while self.is_open:
            target, looked_at = self.generation, 0
            for session in tuple(self.sessions.values()):
                looked_at += session.comply()
                if looked_at >= self.at_once:
                    looked_at = 0
                    yield
            # There may have been changes meanwhile, which those that were first have not heard of.
            del self._changes[: len(self._changes) - (self.generation - target)]
            self.is_open = bool(self._changes)
        self._waiting.clear()

    def release(self) -> None:
        """Have all comply for whom something waits: it is theirs by what is in force now. One step, however long."""
        for outbox in self.withheld.waiting:
            if outbox in self.withheld:  # one before may have cut it off
                self.sessions[outbox.connection].comply()

    def outlook(self, session: Session) -> Outlook | None:
        """Return what the changes that a session has not heard of come to; None if it is nobody who is wanted."""
        identity, found = session.identity, []
        for change in self.since(session.generation):
            if change.review is not None:
                reviewed = change.review(identity)
                if reviewed is None or (reviewed.user is None and change.access.required):
                    return None
                identity = reviewed
            found.append(change.access.rules.grants(identity))
        return Outlook(identity, found)

    def targets(self, topic: Topic, find: Callable[[], Hits]) -> dict[Outbox, None]:
        """Return who gets what is published to a topic at once; the others `withhold` takes care of.

        Call it while `is_open`. `find` returns the hits as they are at the time.
        """
        standing, falling = self._sort(topic, find())
        waiting = {outbox: None for outbox in standing if outbox in falling or outbox in self.withheld}
        if not waiting:
            self._waiting.pop(topic, None)
            return standing
        self._waiting[topic] = waiting
        return {outbox: None for outbox in standing if outbox not in waiting}

    def withhold(self, record: Record, *, is_newest: bool) -> bool:
        """Have a message wait for those who would get it, but have to be told something first.

        Call it while `is_open`, after `targets` of its topic. Returns whether what `targets` has said of any topic
        is void now.
        """
        waiting = self._waiting.get(record.topic)
        if not waiting:
            return False
        is_void = self.withheld.add(record, waiting, is_newest=is_newest)
        if self.withheld.is_full:
            self.release()
        return is_void

    def _sort(self, topic: Topic, hits: Hits) -> tuple[dict[Outbox, None], dict[Outbox, None]]:
        """Return who has a subscription that stands, and who has one that does not.

        Most differ in nothing but their names, and are looked at by the kind, not one by one.
        """
        apart = frozenset[str]().union(*(change.access.rules.names for change in self._changes))
        are_reviewed = any(change.review is not None for change in self._changes)
        standing: dict[Outbox, None] = {}
        falling: dict[Outbox, None] = {}
        for filter_, outboxes in hits:
            known: dict[tuple[int, str | bool, frozenset[str]], Names] = {}
            for outbox in outboxes:
                session = self.sessions[outbox.connection]
                user = session.user
                kind = (session.generation, user if user in apart else user is None, session.identity.groups)
                names = known.get(kind, UNKNOWN)
                if names is UNKNOWN:
                    names = self._who(session, filter_, topic)
                    if not are_reviewed or session.generation == self.generation:
                        known[kind] = names
                if names is None or user in names:
                    standing[outbox] = None
                elif session.generation != self.generation:
                    falling[outbox] = None
        return standing, falling

    def _who(self, session: Session, filter_: Filter, topic: Topic) -> Names:
        """Return who, of all that differ from a session in their names only, gets a topic's messages by a filter."""
        if session.generation == self.generation:
            grants = session.outbox.grants
            return None if grants is None else grants.who_is_allowed(Action.SUBSCRIBE, topic.name, topic.levels)
        outlook = self.outlook(session)
        return frozenset() if outlook is None else outlook.who(filter_, topic)

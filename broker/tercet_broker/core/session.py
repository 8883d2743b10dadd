"""A session: what one connection may do and has subscribed to.

`receive` takes one request and does all of it in one step: the replies are in
its queue when it returns, and the deliveries to others on their way (fanout.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, assert_never

from attrs import define, field, frozen

from tercet_protocol import (
    AnyRequest,
    Authenticate,
    CloseCode,
    Connect,
    DecodeError,
    Drain,
    ErrorCode,
    Event,
    Filter,
    Gap,
    History,
    Ping,
    PingEvent,
    Pong,
    PongEvent,
    PositionEvent,
    Presence,
    Publish,
    Published,
    Subscribe,
    TopicError,
    Unsubscribe,
    Unsubscribed,
    decode_request,
    encode,
    encode_text_frame,
    peek_id,
)

from . import entering, paging, subscribing
from .access import Answer
from .accounting import AccountStatistics
from .catching_up import Cursor
from .changeover import Outlook
from .errors import RefusedError, error_event
from .identity import ANONYMOUS, Arrival, Identity
from .keys import Owner
from .log import Record
from .moment import Moment
from .namespace import Namespace
from .outbox import Outbox
from .queued import Delivery, Newest
from .reading import Reading
from .replay import Loss
from .rules import Action
from .settings import Overflow
from .subscription import Subscription

if TYPE_CHECKING:
    from .broker import Broker


class Carrier(Protocol):
    """What carries a session's frames: a connection of the runtime, or a fake."""

    def wake(self) -> None:
        """Note that the outbox, empty before, has something to send. Called in the middle of a step."""

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close the connection. Nothing is received after this."""

    def authenticate(self, token: str, answer: Answer) -> None:
        """Find out whose a token is, and call `answer` in a later step. Until then nothing is received."""


@frozen
class SessionStatistics:
    """A copy of a session's counts. Sizes are bytes.

    `behind` is how many messages of the logs it has still to be given, or passed over.
    """

    connection: str
    subscriptions: int
    replaying: int
    behind: int
    queued_bytes: int
    account: AccountStatistics


@define(eq=False)
class Session:
    """The session of one connection; `Broker.open` makes it.

    Attributes:
        connection: its number, from 1, unique within this broker's life.
        label: what the peer is told of that, and what the logs say.
        user: who it is; None is anonymous.
        owner: whose share it takes of what is everybody's: its user's, or where it has none, that of the place it
            comes from (`Arrival.owner`), or its own.
        subscriptions: {id: subscription}.
        replaying: what takes turns in having pages queued (paging.py).
        generation: the last change of the broker's `Access` that it has complied with.
        has_fallen_behind: whether it was ever served from the log for being too slow.
        wants_pings: whether the client asked for `ping` messages instead of WebSocket pings.
    """

    broker: Broker = field(repr=False)
    carrier: Carrier = field(repr=False)
    connection: int
    label: str
    arrival: Arrival = field(factory=Arrival, repr=False)
    outbox: Outbox = field(init=False, repr=False)
    identity: Identity = ANONYMOUS
    user: str | None = None
    owner: Owner = field(init=False)
    lapses_at: float = math.inf
    wants_pings: bool = False
    is_connected: bool = False
    is_ended: bool = False
    generation: int = field(init=False)
    has_fallen_behind: bool = False
    subscriptions: dict[int, Subscription] = field(factory=dict, repr=False)
    # (Lists, short as they are: an empty deque takes ten times the memory.)
    replaying: list[Subscription | Cursor | Reading] = field(factory=list, repr=False)
    _present: dict[Namespace, int] = field(factory=dict, repr=False)  # {where: how many subscriptions}
    _bad: list[float] = field(factory=list, repr=False)  # when the last bad requests came

    def __attrs_post_init__(self) -> None:
        """Make the outbox."""
        self.owner = self._owner_without_user()
        self.generation = self.broker.changeover.generation
        limits = self.broker.settings.limits
        self.outbox = Outbox(
            connection=self.connection,
            max_messages=limits.outbox_messages,
            max_bytes=limits.outbox_bytes,
            max_notices=limits.replies,
            wake=self.carrier.wake,
            overflow=self._overflow,
            fan_out=self.broker.fan_out,
        )

    # Requests

    def refuse(self, payload: bytes | str, retry_after: float) -> None:
        """Answer a request that came faster than its connection may ask, without looking into it."""
        if not self.is_ended:
            message = "over this connection's rate of requests; send more slowly"
            self.send(error_event(peek_id(payload), ErrorCode.RATE_LIMITED, message, retry_after))

    def receive(self, payload: bytes | str, moment: Moment) -> None:
        """Serve one text message of the client.

        Whatever it holds, this returns: a bad request is answered with an
        error, and may close the connection. Raises only where the broker
        itself is broken.
        """
        if self.generation != self.broker.changeover.generation:
            self.comply()
        if self.is_ended:
            return
        id_: int | None = None
        try:
            size = len(payload) if isinstance(payload, bytes) else len(payload.encode())
            if size > self.broker.settings.limits.message_bytes:
                id_ = peek_id(payload)
                self._refuse_too_large(size)
            request = decode_request(payload)
            id_ = request.id
            if not self.is_connected:
                self._greet(request, moment)
            elif isinstance(request, Publish):
                self._publish(request, moment)
            elif self.survives_settling():
                self._serve(request, moment)
        except (DecodeError, TopicError, RefusedError) as error:
            self._refuse(id_, error, moment)

    def _greet(self, request: AnyRequest, moment: Moment) -> None:
        if isinstance(request, Connect):
            entering.connect(self, request, moment)
        else:
            self.send(
                error_event(request.id, ErrorCode.UNAUTHORIZED, "'connect' comes first; send it before anything else")
            )
            self.end(CloseCode.UNAUTHORIZED, "connect comes first")

    def _refuse(self, id_: int | None, error: DecodeError | TopicError | RefusedError, moment: Moment) -> None:
        match error:
            case DecodeError():
                self._count_bad(error.id, str(error), moment)
            case TopicError():
                self.send(error_event(id_, ErrorCode.INVALID_TOPIC, str(error)))
            case RefusedError(code=ErrorCode.BAD_REQUEST):
                self._count_bad(id_, error.message, moment)
            case _ if self.is_connected:
                self.send(error_event(id_, error.code, error.message, error.retry_after))
            case _:
                self.turn_away(id_, error)

    def _serve(self, request: AnyRequest, moment: Moment) -> None:
        match request:
            case Publish():
                self._publish(request, moment)
            case Subscribe():
                subscribing.subscribe(self, request, moment)
            case Unsubscribe():
                subscribing.unsubscribe(self, request)
            case History():
                subscribing.read_history(self, request, moment)
            case Ping():
                self.send(PongEvent(id=request.id))
            case Pong():
                pass  # that it came is all it says
            case Connect():
                raise RefusedError(ErrorCode.BAD_REQUEST, "this connection has sent its 'connect' already")
            case Authenticate():
                entering.authenticate(self, request)
            case Presence():
                raise RefusedError(ErrorCode.UNSUPPORTED, "this broker does not offer 'presence'")
            case _:
                assert_never(request)

    # Who it is

    def become(self, identity: Identity, moment: Moment) -> None:
        """Act for an identity from now on, with what it may do."""
        self._assume(identity, moment)
        if self.subscriptions:
            self.broker.spanning.invalidate()  # what topics have cached of who gets them
        self._regrant(Outlook(identity, [self.broker.access.rules.grants(identity)]))

    def _assume(self, identity: Identity, moment: Moment) -> None:
        self.identity, self.user = identity, identity.user
        self.owner = self._owner_without_user() if identity.user is None else identity.user
        left = identity.seconds_left(moment)
        self.lapses_at = math.inf if left is None else moment.now + left + self.broker.access.grace
        self.broker.note_expiry(self)

    def _owner_without_user(self) -> Owner:
        """Return what stays the same when somebody unknown comes again, where there is such a thing."""
        return self.connection if self.arrival.owner is None else self.arrival.owner

    def _regrant(self, outlook: Outlook) -> None:
        """Be allowed what the rules say now; subscriptions that are not allowed any more end."""
        self.outbox.grants = outlook.grants[-1]
        falling = [item for item in self.subscriptions.values() if not outlook.stands(item.filter)]
        # What was published before comes first, and may be too much: nothing can come in between after that.
        if not falling or not self.survives_settling():
            return
        for subscription in falling:
            del self.subscriptions[subscription.id]
            self.detach(subscription)
            text = f"may no longer subscribe to {subscription.filter.text!r}"
            self.send(Unsubscribed(sub=subscription.id, code=ErrorCode.FORBIDDEN, message=text))

    def comply(self) -> int:
        """Be who, and do what, the broker's `Access` says, if it has changed; end if that is nobody it wants.

        Returns how many subscriptions, and messages that waited for this, had to be looked at, and one more; 0 if
        nothing has changed.
        """
        changeover = self.broker.changeover
        changes = changeover.since(self.generation)
        if not changes:
            return 0
        outlook, looked_at = changeover.outlook(self), 1 + len(self.subscriptions)
        self.generation = changeover.generation
        if not self.is_connected or self.is_ended:
            return looked_at
        if outlook is None:
            self.turn_away(None, RefusedError(ErrorCode.UNAUTHORIZED, "who you are is not known here any more"))
            return looked_at
        moment = next((change.moment for change in reversed(changes) if change.moment is not None), None)
        if moment is not None:
            self._assume(outlook.identity, moment)
        self._regrant(outlook)  # (nothing cached is void: who gets what was decided by the same outlook)
        if self.outbox in changeover.withheld and self.survives_settling():
            looked_at += changeover.withheld.hand_over(self.outbox)
            self.broker.spanning.invalidate()  # nothing waits for it any more
        return looked_at

    def lapse(self) -> None:
        """End, because the token has expired and the time for renewing it is over."""
        self.turn_away(None, RefusedError(ErrorCode.UNAUTHORIZED, "the token has expired; come back with a new one"))

    def turn_away(self, id_: int | None, error: RefusedError) -> None:
        """Answer somebody who is not let in, or not any more, and close unless waiting helps one who is in."""
        self.send(error_event(id_, error.code, error.message, error.retry_after))
        if error.retry_after is None:
            reason = "unauthorized" if error.code is ErrorCode.UNAUTHORIZED else "connect comes first"
            self.end(CloseCode.UNAUTHORIZED, reason)
        elif not self.is_connected:
            self.end(CloseCode.TRY_AGAIN_LATER, "cannot verify a token now")

    def check_filter(self, action: Action, filter_: Filter) -> None:
        """Raise `forbidden` unless all that a filter matches lies inside one that the rules allow."""
        grants = self.outbox.grants
        if grants is not None and not grants.covers(action, filter_):
            what = "subscribe to" if action is Action.SUBSCRIBE else "read the history of"
            raise RefusedError(ErrorCode.FORBIDDEN, f"may not {what} {filter_.text!r}")

    # What it asks for

    def _publish(self, request: Publish, moment: Moment) -> None:
        grants = self.outbox.grants
        if grants is not None and not grants.allows(Action.PUBLISH, request.topic):
            raise RefusedError(ErrorCode.FORBIDDEN, f"may not publish to {request.topic!r}")
        namespace = self.broker.namespace_of_topic(request.topic, self.owner)
        if self.broker.is_draining:
            raise RefusedError(
                ErrorCode.UNAVAILABLE,
                "the broker is about to stop; publish again after reconnecting",
                retry_after=1.0,
            )
        seq, duplicate = namespace.publish(request, self, moment)
        if request.id is not None:
            self.send(Published(id=request.id, epoch=namespace.epoch, seq=seq, duplicate=duplicate))

    # Where it is subscribed

    def advance(self) -> None:
        """Queue the next page of the replays (`paging.advance`)."""
        paging.advance(self)

    def send_gap(self, subscription: Subscription, loss: Loss) -> None:
        """Tell a subscription what it will not get."""
        self.send(
            Gap(
                sub=subscription.id,
                epoch=loss.epoch,
                after=loss.after,
                through=loss.through,
                reason=loss.reason,
            )
        )

    def enter(self, namespace: Namespace, moment: Moment) -> None:
        """Be told positions in a namespace, for one subscription more."""
        count = self._present.get(namespace, 0)
        self._present[namespace] = count + 1
        if not count:
            namespace.watch.add(self, moment.now)

    def attach(self, subscription: Subscription) -> None:
        """Let a subscription be live from now on."""
        namespace = subscription.namespace
        index = self.broker.spanning if namespace is None else namespace.index
        index.add(subscription.filter, self.outbox)
        for cursor in self.outbox.cursors.values():
            if namespace in (cursor.namespace, None):
                cursor.add(subscription, cursor.namespace.log.head)

    def detach(self, subscription: Subscription) -> None:
        """Let a subscription get nothing more."""
        namespace = subscription.namespace
        for cursor in self.outbox.cursors.values():
            cursor.discard(subscription)
        if namespace is None:
            self.broker.spanning.remove(subscription.filter, self.outbox)
            return
        if subscription.replay is None:
            namespace.index.remove(subscription.filter, self.outbox)
        else:
            self.replaying.remove(subscription)
            self.outbox.is_behind = bool(self.replaying)
        self._present[namespace] -= 1
        if not self._present[namespace]:
            del self._present[namespace]
            namespace.watch.discard(self)

    def tell_position(self, namespace: Namespace) -> None:
        """Send a `position` notice: everything up to it that matched has been queued, be it live or from the log.

        Not to a connection that does not read its notices, which would pile
        up: the worst that can come of it is a gap that was none.
        """
        self.comply()
        if self.outbox.is_unread or not self.survives_settling():
            return
        cursor = self.outbox.cursors.get(namespace.account)
        seq = namespace.log.head if cursor is None else cursor.seq
        self.send(PositionEvent(namespace=namespace.name, epoch=namespace.epoch, seq=seq))

    # What it sends, and its end

    def send(self, event: Event) -> None:
        """Queue a reply or a notice; nothing once the session has ended.

        A publish may overflow its own publisher's queue. Its reply would then
        be the first after those that the overflow dropped.
        """
        if self.broker.fan_out.goes_to(self.outbox) and not self.survives_settling():
            return
        if not self.is_ended:
            self.outbox.notify(encode_text_frame(encode(event)))

    def survives_settling(self) -> bool:
        """Offer what is on its way, and tell whether the session has not been ended by it, being too slow."""
        self.broker.fan_out.settle()
        return not self.is_ended

    def reply(self, request: AnyRequest, event: Event) -> None:
        """Answer a request, if it asked for that with an id."""
        if request.id is not None:
            self.send(event)

    def ping(self) -> None:
        """Ask the client for a sign of life in the way it can see."""
        self.send(PingEvent())

    def announce_drain(self, retry_after: float) -> None:
        """Tell the client its positions and that the connection will be closed."""
        self.comply()
        for namespace in tuple(self._present):
            self.tell_position(namespace)
        self.send(Drain(retry_after=retry_after))

    def fail(self, what: str) -> None:
        """Tell the client that we failed it; the connection's end follows."""
        self.send(error_event(None, ErrorCode.INTERNAL, what))

    def _refuse_too_large(self, size: int) -> None:
        limit = self.broker.settings.limits.message_bytes
        raise RefusedError(ErrorCode.TOO_LARGE, f"a message may have {limit} bytes, this one has {size}")

    def _count_bad(self, id_: int | None, message: str, moment: Moment) -> None:
        """Answer a bad request; too many of them end the connection."""
        self.send(error_event(id_, ErrorCode.BAD_REQUEST, message))
        if not self.is_connected and not message.startswith("connect:"):
            self.end(CloseCode.UNAUTHORIZED, "connect comes first")
            return
        limits = self.broker.settings.limits
        bad = self._bad
        bad.append(moment.now)
        while bad[0] <= moment.now - limits.bad_seconds:
            del bad[0]
        if len(bad) >= limits.bad_requests:
            self.end(CloseCode.POLICY_VIOLATION, f"{len(bad)} bad requests within {limits.bad_seconds:g} s")

    # Too slow

    def _overflow(self, delivery: Delivery) -> bool:
        """Do what the namespace of a delivery says, now that there is no room for it; return whether this goes on."""
        outbox = self.outbox
        if outbox.is_sealed:
            # Not too slow but closing: what is queued, a Close perhaps, still goes out.
            self.leave()
            return False
        if not isinstance(delivery, Record | Newest):
            outbox.refuse(delivery)
            self._cut_off()
            return False
        namespace = self._namespace_of(delivery)
        match namespace.settings.policy:
            case Overflow.DISCONNECT:
                outbox.refuse(delivery)
                self._cut_off()
                return False
            case Overflow.CATCH_UP:
                self._fall_behind(namespace, delivery.seq - 1)
            case Overflow.DROP_OLDEST | Overflow.CONFLATE:
                outbox.relieve(namespace.name, namespace.epoch, namespace.account, delivery)
        return True

    def _namespace_of(self, delivery: Record | Newest) -> Namespace:
        topic = delivery.topic
        return self.broker.namespace_of_topic(topic if isinstance(topic, str) else topic.name, self.owner)

    def _cut_off(self) -> None:
        self.outbox.clear()
        self.end(CloseCode.SLOW_CONSUMER, "too slow: its queue is full")

    def _fall_behind(self, namespace: Namespace, seq: int) -> None:
        """Serve a namespace from the log, from after `seq` on."""
        cursor = Cursor.open(namespace, seq, self.subscriptions.values())
        self.outbox.fall_behind(namespace.account, cursor)
        self.has_fallen_behind = True
        self.replaying.append(cursor)

    def look(self, now: float) -> None:
        """See whether too much has been queued for too long: that is an overflow as well. Called once a second."""
        outbox = self.outbox
        if not outbox.is_half_full or self.is_ended:
            outbox.slow_since = None
        elif outbox.slow_since is None:
            outbox.slow_since = now
        elif now - outbox.slow_since >= self.broker.settings.limits.slow_seconds and self.survives_settling():
            self._shorten()

    def _shorten(self) -> None:
        """Do what the namespace says of which most is queued."""
        self.comply()  # and get what waits for that, before it is settled what is to be read from the log
        outbox = self.outbox
        delivery = outbox.of_most()
        if delivery is None or self.is_ended:
            return
        namespace = self._namespace_of(delivery)
        match namespace.settings.policy:
            case Overflow.DISCONNECT:
                self._cut_off()
            case Overflow.CATCH_UP:
                self._fall_behind(namespace, namespace.log.head)
            case Overflow.DROP_OLDEST | Overflow.CONFLATE:
                outbox.relieve(namespace.name, namespace.epoch, namespace.account, None)

    def end(self, code: CloseCode, reason: str) -> None:
        """End the session and have its connection closed. Idempotent."""
        if not self.is_ended:
            self.leave()
            self.carrier.close(code, reason)

    def leave(self) -> None:
        """End the session because its connection has ended, or is about to. Idempotent.

        What is queued stays queued: the connection may still be flushing it.
        """
        if self.is_ended:
            return
        if not self.survives_settling():
            return
        self.is_ended = True
        for subscription in self.subscriptions.values():
            self.detach(subscription)
        self.broker.changeover.withheld.discard(self.outbox)
        self.subscriptions.clear()
        if self.is_connected:
            self.broker.users.leave(self.user)
        for cursor in self.outbox.cursors.values():
            self.outbox.catch_up(cursor.namespace.account)
        self.replaying.clear()
        self.outbox.is_behind = False
        self.broker.forget(self)

    def statistics(self) -> SessionStatistics:
        """Return the counts as they are now."""
        return SessionStatistics(
            connection=self.label,
            subscriptions=len(self.subscriptions),
            replaying=sum(isinstance(item, Subscription) for item in self.replaying),
            behind=sum(cursor.behind for cursor in self.outbox.cursors.values()),
            queued_bytes=self.outbox.size,
            account=self.outbox.account.statistics(),
        )

"""A session: what one connection may do and has subscribed to.

`receive` takes one request and does all of it in one step: the replies, and
the deliveries to others, are in their queues when it returns.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, assert_never

from attrs import define, field, frozen

from tercet_protocol import (
    AnyRequest,
    Authenticate,
    Authenticated,
    CloseCode,
    Connect,
    Connected,
    DecodeError,
    Drain,
    Error,
    ErrorCode,
    Event,
    Filter,
    Gap,
    GapReason,
    History,
    Live,
    Ping,
    PingEvent,
    Pong,
    PongEvent,
    PositionEvent,
    Presence,
    Publish,
    Published,
    Subscribe,
    Subscribed,
    TopicError,
    Unsubscribe,
    Unsubscribed,
    decode_request,
    encode,
    encode_replay,
    encode_text_frame,
    peek_id,
)

from .access import Answer
from .accounting import AccountStatistics
from .catching_up import Cursor
from .changeover import Outlook
from .errors import RefusedError
from .identity import ANONYMOUS, Arrival, Identity
from .keys import Owner
from .log import Record
from .moment import Moment
from .namespace import Namespace
from .outbox import Outbox
from .queued import Delivery, Newest, ReplayedFrame
from .reading import parse_valid_filter, read_history, start_replay
from .replay import SCAN, Loss
from .rules import Action
from .settings import Overflow
from .subscription import Subscription

if TYPE_CHECKING:
    from .broker import Broker

# A page of replay is added while less than this is queued: enough to keep the
# socket busy, little enough that a live message does not wait long behind it.
# A small outbox has small pages, so that they never make it overflow.
_PAGE_BYTES = 64 * 1024
_PAGES_PER_OUTBOX = 4
# Messages of a replay that are queued in the step of its `subscribe`: short ones are over with that. After a restart
# everybody subscribes at once, and what is left comes in turns.
_AT_ONCE = 32
_RETRY_USER = 10.0  # seconds after which a user who has too many connections may have fewer


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
    _subscriptions: dict[int, Subscription] = field(factory=dict, repr=False)  # {id: subscription}
    # (Lists, short as they are: an empty deque takes ten times the memory.)
    _replaying: list[Subscription | Cursor] = field(factory=list, repr=False)  # what takes turns in being read for
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
            self.send(_error(peek_id(payload), ErrorCode.RATE_LIMITED, message, retry_after))

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
            elif self._survives_settling():
                self._serve(request, moment)
        except (DecodeError, TopicError, RefusedError) as error:
            self._refuse(id_, error, moment)

    def _greet(self, request: AnyRequest, moment: Moment) -> None:
        if isinstance(request, Connect):
            self._connect(request, moment)
        else:
            self.send(_error(request.id, ErrorCode.UNAUTHORIZED, "'connect' comes first; send it before anything else"))
            self.end(CloseCode.UNAUTHORIZED, "connect comes first")

    def _refuse(self, id_: int | None, error: DecodeError | TopicError | RefusedError, moment: Moment) -> None:
        match error:
            case DecodeError():
                self._count_bad(error.id, str(error), moment)
            case TopicError():
                self.send(_error(id_, ErrorCode.INVALID_TOPIC, str(error)))
            case RefusedError(code=ErrorCode.BAD_REQUEST):
                self._count_bad(id_, error.message, moment)
            case _ if self.is_connected:
                self.send(_error(id_, error.code, error.message, error.retry_after))
            case _:
                self._turn_away(id_, error)

    def _serve(self, request: AnyRequest, moment: Moment) -> None:
        match request:
            case Publish():
                self._publish(request, moment)
            case Subscribe():
                self._subscribe(request, moment)
            case Unsubscribe():
                self._unsubscribe(request)
            case History():
                self._read_history(request, moment)
            case Ping():
                self.send(PongEvent(id=request.id))
            case Pong():
                pass  # that it came is all it says
            case Connect():
                raise RefusedError(ErrorCode.BAD_REQUEST, "this connection has sent its 'connect' already")
            case Authenticate():
                self._authenticate(request, moment)
            case Presence():
                raise RefusedError(ErrorCode.UNSUPPORTED, "this broker does not offer 'presence'")
            case _:
                assert_never(request)

    # Who it is

    def _connect(self, request: Connect, moment: Moment) -> None:
        access, known = self.broker.access, self.arrival.identity
        token = self.arrival.bearer if request.token is None else request.token
        if access.takes_tokens and token is not None:
            self._ask_whose(token, partial(self._welcome, request))
        elif known is None and access.required:
            raise RefusedError(ErrorCode.UNAUTHORIZED, "who you are is not known; send a 'token' with 'connect'")
        else:
            self._welcome(request, known or ANONYMOUS, moment)

    def _ask_whose(self, token: str, answer: Answer) -> None:
        """Have a token verified; nothing more is received before `answer` was called."""
        if not self.arrival.is_private:
            raise RefusedError(
                ErrorCode.UNAUTHORIZED,
                "tokens are not taken over an unencrypted connection, where others may have read this one; use wss://",
            )
        self.outbox.is_held = True
        self.carrier.authenticate(token, answer)

    def _verdict(self, id_: int | None, verdict: Identity | RefusedError) -> Identity | None:
        """Return whose a token is; None if that ends the request."""
        self.outbox.is_held = False
        self.comply()
        if self.is_ended or not self._survives_settling():
            return None
        if isinstance(verdict, Identity):
            return verdict
        self._turn_away(id_, verdict)
        return None

    def _welcome(self, request: Connect, verdict: Identity | RefusedError, moment: Moment) -> None:
        identity = self._verdict(request.id, verdict)
        if identity is None or not self._may_enter(request, identity):
            return
        self.is_connected = True
        self.wants_pings = request.heartbeat
        self._become(identity, moment)
        broker = self.broker
        self.send(
            Connected(
                id=request.id,
                connection=self.label,
                server=broker.server,
                heartbeat=broker.heartbeat,
                limits=broker.told_limits,
                user=identity.user,
                expires_in=_seconds_left(identity, moment),
            )
        )

    def _may_enter(self, request: Connect, identity: Identity) -> bool:
        """Count a connection as its user's; False if it ends instead."""
        known, users = self.arrival.identity, self.broker.users
        if known is not None and identity.user != known.user:
            message = "the token is another user's than the certificate; come with one of them alone"
            self._turn_away(request.id, RefusedError(ErrorCode.UNAUTHORIZED, message))
            return False
        if not users.enter(identity.user):
            message = f"there are {users.limit} connections of this user, as many as there may be; close one first"
            self.send(_error(request.id, ErrorCode.UNAVAILABLE, message, _RETRY_USER))
            self.end(CloseCode.TRY_AGAIN_LATER, "too many connections of this user")
            return False
        return True

    def _authenticate(self, request: Authenticate, moment: Moment) -> None:
        del moment  # the answer comes with another one
        if not self.broker.access.takes_tokens:
            raise RefusedError(ErrorCode.UNSUPPORTED, "this broker does not offer 'authenticate'")
        self._ask_whose(request.token, partial(self._renew, request))

    def _renew(self, request: Authenticate, verdict: Identity | RefusedError, moment: Moment) -> None:
        identity = self._verdict(request.id, verdict)
        if identity is None:
            return
        if identity.user is None or identity.user != self.identity.user:
            message = "the token is another user's; open a connection of its own for that one"
            self.send(_error(request.id, ErrorCode.FORBIDDEN, message))
            return
        self._become(identity, moment)
        self._reply(
            request,
            Authenticated(id=request.id, user=identity.user, expires_in=_seconds_left(identity, moment)),
        )

    def _become(self, identity: Identity, moment: Moment) -> None:
        """Act for an identity from now on, with what it may do."""
        self._assume(identity, moment)
        if self._subscriptions:
            self.broker.spanning.invalidate()  # what topics have cached of who gets them
        self._regrant(Outlook(identity, [self.broker.access.rules.grants(identity)]))

    def _assume(self, identity: Identity, moment: Moment) -> None:
        self.identity, self.user = identity, identity.user
        self.owner = self._owner_without_user() if identity.user is None else identity.user
        left = _seconds_left(identity, moment)
        self.lapses_at = math.inf if left is None else moment.now + left + self.broker.access.grace
        self.broker.note_expiry(self)

    def _owner_without_user(self) -> Owner:
        """Return what stays the same when somebody unknown comes again, where there is such a thing."""
        return self.connection if self.arrival.owner is None else self.arrival.owner

    def _regrant(self, outlook: Outlook) -> None:
        """Be allowed what the rules say now; subscriptions that are not allowed any more end."""
        self.outbox.grants = outlook.grants[-1]
        for subscription in list(self._subscriptions.values()):
            if not outlook.stands(subscription.filter):
                del self._subscriptions[subscription.id]
                self._detach(subscription)
                text = f"may no longer subscribe to {subscription.filter.text!r}"
                self.send(Unsubscribed(sub=subscription.id, code=ErrorCode.FORBIDDEN, message=text))

    def comply(self) -> int:
        """Be who, and do what, the broker's `Access` says, if it has changed; end if that is nobody it wants.

        Returns how many subscriptions had to be looked at, and one more; 0 if nothing has changed.
        """
        changeover = self.broker.changeover
        changes = changeover.since(self.generation)
        if not changes:
            return 0
        outlook, looked_at = changeover.outlook(self), 1 + len(self._subscriptions)
        self.generation = changeover.generation
        if not self.is_connected or self.is_ended:
            return looked_at
        if outlook is None:
            self._turn_away(None, RefusedError(ErrorCode.UNAUTHORIZED, "who you are is not known here any more"))
            return looked_at
        moment = next((change.moment for change in reversed(changes) if change.moment is not None), None)
        if moment is not None:
            self._assume(outlook.identity, moment)
        self._regrant(outlook)  # (nothing cached is void: who gets what was decided by the same outlook)
        return looked_at

    def lapse(self) -> None:
        """End, because the token has expired and the time for renewing it is over."""
        self._turn_away(None, RefusedError(ErrorCode.UNAUTHORIZED, "the token has expired; come back with a new one"))

    def _turn_away(self, id_: int | None, error: RefusedError) -> None:
        """Answer somebody who is not let in, or not any more, and close unless waiting helps one who is in."""
        self.send(_error(id_, error.code, error.message, error.retry_after))
        if error.retry_after is None:
            reason = "unauthorized" if error.code is ErrorCode.UNAUTHORIZED else "connect comes first"
            self.end(CloseCode.UNAUTHORIZED, reason)
        elif not self.is_connected:
            self.end(CloseCode.TRY_AGAIN_LATER, "cannot verify a token now")

    def _check_filter(self, action: Action, filter_: Filter) -> None:
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

    def _subscribe(self, request: Subscribe, moment: Moment) -> None:
        limit = self.broker.settings.limits.subscriptions
        if request.id is None:
            raise RefusedError(ErrorCode.BAD_REQUEST, "subscribe: an 'id' is required, it names the subscription")
        if request.id in self._subscriptions:
            raise RefusedError(
                ErrorCode.DUPLICATE_ID,
                f"a subscription {request.id} exists already; use another id or unsubscribe it",
            )
        if len(self._subscriptions) >= limit:
            raise RefusedError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"a connection may have {limit} subscriptions; end one first",
            )
        filter_ = parse_valid_filter(request.filter)
        self._check_filter(Action.SUBSCRIBE, filter_)
        namespace = self.broker.namespace_of(filter_, self.owner)
        start = start_replay(
            namespace, filter_, request, connection=self.connection, limits=self.broker.settings.limits, moment=moment
        )
        subscription = Subscription(request.id, filter_, namespace, start.replay)
        self._subscriptions[request.id] = subscription
        if namespace is None:
            self.send(Subscribed(id=request.id, live=True))
            self._attach(subscription)
            return
        self.send(
            Subscribed(
                id=request.id,
                live=start.replay is None,
                epoch=namespace.epoch,
                seq=namespace.log.head,
                recovered=start.recovered,
                conflated=namespace.conflates or None,
            )
        )
        if start.gap is not None:
            self._send_gap(subscription, start.gap)
        self._enter(namespace, moment)
        if start.replay is None:
            self._attach(subscription)
        else:
            self._replaying.append(subscription)
            self.outbox.is_behind = True
            self.advance(_AT_ONCE)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        subscription = self._subscriptions.pop(request.sub, None)
        if subscription is None:
            raise RefusedError(ErrorCode.UNKNOWN_SUBSCRIPTION, f"there is no subscription {request.sub} here")
        self._detach(subscription)
        self._reply(request, Unsubscribed(id=request.id))

    def _read_history(self, request: History, moment: Moment) -> None:
        filter_ = parse_valid_filter(request.filter)
        self._check_filter(Action.HISTORY, filter_)
        namespace = self.broker.namespace_of(filter_, self.owner)
        if namespace is None:
            raise RefusedError(
                ErrorCode.INVALID_FILTER,
                f"'history' needs a filter within one namespace, {filter_.text!r} spans them",
            )
        if request.id is None:
            return  # nobody is answered, and reading is not for free
        limits = self.broker.settings.limits
        page = read_history(namespace, filter_, request, connection=self.connection, limits=limits, moment=moment)
        grants = self.outbox.grants
        if grants is not None:
            page.messages = [message for message in page.messages if grants.allows(Action.HISTORY, message.topic)]
        self.send(page)

    # Replays

    def advance(self, most: int = SCAN) -> None:
        """Queue the next pages of the replays, in turns, while little is queued; `most` messages of a replay.

        It returns after one page, however little that held, so that one step
        stays short; whoever drains the outbox calls it again while the outbox `is_behind`.
        """
        self.comply()
        if not self._replaying or self._has_page_queued() or not self._survives_settling():
            return
        turn = self._replaying[0]
        goes_on = self._catch_up(turn) if isinstance(turn, Cursor) else self._replay(turn, most)
        if self.is_ended:
            return
        del self._replaying[0]
        if goes_on:
            self._replaying.append(turn)
        self.outbox.is_behind = bool(self._replaying)

    def _catch_up(self, cursor: Cursor) -> bool:
        """Queue a page of what this connection is behind; return whether there is more."""
        namespace, outbox, grants = cursor.namespace, self.outbox, self.outbox.grants
        lost = cursor.skip_lost()
        if lost is not None:
            after, through = lost
            reason = GapReason.OVERFLOW
            self.send(Gap(namespace=namespace.name, epoch=namespace.epoch, after=after, through=through, reason=reason))
        for record in namespace.log.after(cursor.seq, SCAN):
            cursor.seq = record.seq
            topic = record.topic
            if record.muted == self.connection or not cursor.wants(record):
                continue
            if grants is not None and not grants.allows(Action.SUBSCRIBE, topic.name, topic.levels):
                continue
            outbox.take(record)
            if self._has_page_queued():
                break
        if cursor.behind:
            return True
        outbox.catch_up(namespace.account)
        self.tell_position(namespace)  # what it was told before is as old as it was behind
        return False

    def _replay(self, subscription: Subscription, most: int) -> bool:
        """Queue a page of a replay; return whether there is more."""
        replay, namespace = subscription.replay, subscription.namespace
        if replay is None or namespace is None:
            return False
        gap = replay.take_gap()
        if gap is not None:
            self._send_gap(subscription, gap)
        grants = self.outbox.grants
        for record, retained in islice(replay.page(), most):
            topic = record.topic
            if grants is not None and not grants.allows(Action.SUBSCRIBE, topic.name, topic.levels):
                continue
            payload = encode_replay(
                topic.json,
                record.seq,
                record.time,
                record.data,
                sub=subscription.id,
                retained=retained,
            )
            if not self.outbox.offer(ReplayedFrame(encode_text_frame(payload), namespace.account)):
                return False
            if self._has_page_queued():
                break
        if not replay.is_done:
            return True
        subscription.replay = None
        self._attach(subscription)
        self.send(Live(sub=subscription.id, seq=namespace.log.head))
        return False

    def _has_page_queued(self) -> bool:
        outbox = self.outbox
        return (
            outbox.size >= min(_PAGE_BYTES, outbox.max_bytes // _PAGES_PER_OUTBOX)
            or outbox.account.queued * _PAGES_PER_OUTBOX >= outbox.max_messages
        )

    def _send_gap(self, subscription: Subscription, loss: Loss) -> None:
        self.send(
            Gap(
                sub=subscription.id,
                epoch=loss.epoch,
                after=loss.after,
                through=loss.through,
                reason=loss.reason,
            )
        )

    # Where it is subscribed

    def _enter(self, namespace: Namespace, moment: Moment) -> None:
        count = self._present.get(namespace, 0)
        self._present[namespace] = count + 1
        if not count:
            namespace.watch.add(self, moment.now)

    def _attach(self, subscription: Subscription) -> None:
        """Let a subscription be live from now on."""
        namespace = subscription.namespace
        index = self.broker.spanning if namespace is None else namespace.index
        index.add(subscription.filter, self.outbox)
        for cursor in self.outbox.cursors.values():
            if namespace in (cursor.namespace, None):
                cursor.add(subscription, cursor.namespace.log.head)

    def _detach(self, subscription: Subscription) -> None:
        namespace = subscription.namespace
        for cursor in self.outbox.cursors.values():
            cursor.discard(subscription)
        if namespace is None:
            self.broker.spanning.remove(subscription.filter, self.outbox)
            return
        if subscription.replay is None:
            namespace.index.remove(subscription.filter, self.outbox)
        else:
            self._replaying.remove(subscription)
            self.outbox.is_behind = bool(self._replaying)
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
        if self.outbox.is_congested or not self._survives_settling():
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
        if self.broker.fan_out.goes_to(self.outbox) and not self._survives_settling():
            return
        if not self.is_ended:
            self.outbox.notify(encode_text_frame(encode(event)))

    def _survives_settling(self) -> bool:
        """Offer what is on its way, and tell whether the session has not been ended by it, being too slow."""
        self.broker.fan_out.settle()
        return not self.is_ended

    def _reply(self, request: AnyRequest, event: Event) -> None:
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
        self.send(_error(None, ErrorCode.INTERNAL, what))

    def _refuse_too_large(self, size: int) -> None:
        limit = self.broker.settings.limits.message_bytes
        raise RefusedError(ErrorCode.TOO_LARGE, f"a message may have {limit} bytes, this one has {size}")

    def _count_bad(self, id_: int | None, message: str, moment: Moment) -> None:
        """Answer a bad request; too many of them end the connection."""
        self.send(_error(id_, ErrorCode.BAD_REQUEST, message))
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
        cursor = Cursor.open(namespace, seq, self._subscriptions.values())
        self.outbox.fall_behind(namespace.account, cursor)
        self.has_fallen_behind = True
        self._replaying.append(cursor)

    def look(self, now: float) -> None:
        """See whether too much has been queued for too long: that is an overflow as well. Called once a second."""
        outbox = self.outbox
        if not outbox.is_half_full or self.is_ended:
            outbox.slow_since = None
        elif outbox.slow_since is None:
            outbox.slow_since = now
        elif now - outbox.slow_since >= self.broker.settings.limits.slow_seconds and self._survives_settling():
            self._shorten()

    def _shorten(self) -> None:
        """Do what the namespace says of which most is queued."""
        outbox = self.outbox
        delivery = outbox.of_most()
        if delivery is None:
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
        if not self._survives_settling():
            return
        self.is_ended = True
        for subscription in self._subscriptions.values():
            self._detach(subscription)
        self._subscriptions.clear()
        if self.is_connected:
            self.broker.users.leave(self.user)
        for cursor in self.outbox.cursors.values():
            self.outbox.catch_up(cursor.namespace.account)
        self._replaying.clear()
        self.outbox.is_behind = False
        self.broker.forget(self)

    def statistics(self) -> SessionStatistics:
        """Return the counts as they are now."""
        return SessionStatistics(
            connection=self.label,
            subscriptions=len(self._subscriptions),
            replaying=sum(isinstance(item, Subscription) for item in self._replaying),
            behind=sum(cursor.behind for cursor in self.outbox.cursors.values()),
            queued_bytes=self.outbox.size,
            account=self.outbox.account.statistics(),
        )


def _error(id_: int | None, code: ErrorCode, message: str, retry_after: float | None = None) -> Error:
    return Error(id=id_, code=code, message=message, retry_after=retry_after)


def _seconds_left(identity: Identity, moment: Moment) -> float | None:
    """Return for how long an identity lasts, in seconds; None for ever."""
    if identity.expires_at is None:
        return None
    return max(0.0, round(identity.expires_at - moment.time / 1000, 3))

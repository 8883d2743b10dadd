"""What a session asks for besides publishing: subscriptions, their end, and pages of history."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tercet_protocol import ErrorCode, History, Subscribe, Subscribed, Unsubscribe, Unsubscribed

from . import paging
from .errors import RefusedError
from .moment import Moment
from .reading import Reading, parse_valid_filter, start_replay
from .rules import Action
from .subscription import Subscription

if TYPE_CHECKING:
    from .session import Session

# Messages of a replay that are queued in the step of its `subscribe`: short ones are over with that. After a restart
# everybody subscribes at once, and what is left comes in turns, as all of it does where time is short.
_AT_ONCE = 32


def subscribe(session: Session, request: Subscribe, moment: Moment) -> None:
    """Serve `subscribe`: answer, announce what is lost, and begin the replay where there is one.

    Raises:
        RefusedError: it is against a limit or the rules, or its options contradict each other.
    """
    limit = session.broker.settings.limits.subscriptions
    if request.id is None:
        raise RefusedError(ErrorCode.BAD_REQUEST, "subscribe: an 'id' is required, it names the subscription")
    if request.id in session.subscriptions:
        raise RefusedError(
            ErrorCode.DUPLICATE_ID,
            f"a subscription {request.id} exists already; use another id or unsubscribe it",
        )
    if len(session.subscriptions) >= limit:
        raise RefusedError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"a connection may have {limit} subscriptions; end one first",
        )
    filter_ = parse_valid_filter(request.filter)
    session.check_filter(Action.SUBSCRIBE, filter_)
    namespace = session.broker.namespace_of(filter_, session.owner)
    start = start_replay(
        namespace, filter_, request, connection=session.connection, limits=session.broker.settings.limits, moment=moment
    )
    subscription = Subscription(request.id, filter_, namespace, start.replay)
    session.subscriptions[request.id] = subscription
    if namespace is None:
        session.send(Subscribed(id=request.id, live=True))
        session.attach(subscription)
        return
    session.send(
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
        session.send_gap(subscription, start.gap)
    session.enter(namespace, moment)
    if start.replay is None:
        session.attach(subscription)
    else:
        session.replaying.append(subscription)
        session.outbox.is_behind = True
        session.broker.begin_reading(partial(paging.advance, session, _AT_ONCE))


def unsubscribe(session: Session, request: Unsubscribe) -> None:
    """Serve `unsubscribe`: behind its reply nothing comes for the subscription.

    Raises:
        RefusedError: there is no such subscription.
    """
    subscription = session.subscriptions.pop(request.sub, None)
    if subscription is None:
        raise RefusedError(ErrorCode.UNKNOWN_SUBSCRIPTION, f"there is no subscription {request.sub} here")
    session.detach(subscription)
    session.reply(request, Unsubscribed(id=request.id))


def read_history(session: Session, request: History, moment: Moment) -> None:
    """Begin to serve `history`; nothing more is received before that is done.

    Raises:
        RefusedError: it is against the rules, or its filter spans namespaces.
    """
    filter_ = parse_valid_filter(request.filter)
    session.check_filter(Action.HISTORY, filter_)
    namespace = session.broker.namespace_of(filter_, session.owner)
    if namespace is None:
        raise RefusedError(
            ErrorCode.INVALID_FILTER,
            f"'history' needs a filter within one namespace, {filter_.text!r} spans them",
        )
    if request.id is None:
        return  # nobody is answered, and reading is not for free
    limits = session.broker.settings.limits
    reading = Reading.of(namespace, filter_, request, connection=session.connection, limits=limits, moment=moment)
    # Until it is answered nothing more is received: what is behind it waits, in order.
    session.outbox.is_held = session.outbox.is_behind = True
    session.replaying.append(reading)
    session.broker.begin_reading(session.advance)
    if session.replaying:
        session.outbox.wake()

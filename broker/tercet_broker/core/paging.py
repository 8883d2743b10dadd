"""Page by page: what a session reads of the log, for replays, `history`, and where it has fallen behind."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tercet_protocol import Gap, GapReason, Live, encode_replay, encode_text_frame

from .catching_up import Cursor
from .errors import RefusedError, error_event
from .queued import ReplayedFrame
from .reading import Reading
from .replay import SCAN
from .rules import Action
from .subscription import Subscription

if TYPE_CHECKING:
    from .outbox import Outbox
    from .session import Session

# A page of replay is added while less than this is queued: enough to keep the
# socket busy, little enough that a live message does not wait long behind it.
# A small outbox has small pages, so that they never make it overflow.
_PAGE_BYTES = 64 * 1024
_PAGES_PER_OUTBOX = 4

# Messages that a page of a replay holds, however small they are. Each is encoded for its subscription, at a few
# microseconds: so a step stays below a millisecond.
_PAGE = 256


def advance(session: Session, most: int = _PAGE) -> None:
    """Queue the next pages of the replays, in turns, while little is queued; `most` messages of a replay.

    It returns after one page, however little that held, so that one step
    stays short; whoever drains the outbox calls it again while the outbox `is_behind`.
    """
    session.comply()
    if session.outbox.is_sealed:
        session.leave()  # its link is closing, and no frame may follow the Close
    if not session.replaying or _has_page_queued(session.outbox) or not session.survives_settling():
        return
    turn = session.replaying[0]
    match turn:
        case Cursor():
            goes_on = _catch_up(session, turn)
        case Reading():
            goes_on = _read(session, turn)
        case _:
            goes_on = _replay(session, turn, most)
    if session.is_ended:
        return
    del session.replaying[0]
    if goes_on:
        session.replaying.append(turn)
    session.outbox.is_behind = bool(session.replaying)


def _catch_up(session: Session, cursor: Cursor) -> bool:
    """Queue a page of what this connection is behind; return whether there is more."""
    namespace, outbox, grants = cursor.namespace, session.outbox, session.outbox.grants
    lost = cursor.skip_lost()
    if lost is not None:
        after, through = lost
        reason = GapReason.OVERFLOW
        session.send(Gap(namespace=namespace.name, epoch=namespace.epoch, after=after, through=through, reason=reason))
    for record in namespace.log.after(cursor.seq, SCAN):
        cursor.seq = record.seq
        topic = record.topic
        if record.muted == session.connection or not cursor.wants(record):
            continue
        if grants is not None and not grants.allows(Action.SUBSCRIBE, topic.name, topic.levels):
            continue
        outbox.take(record)
        if _has_page_queued(session.outbox):
            break
    if cursor.behind:
        return True
    outbox.catch_up(namespace.account)
    session.tell_position(namespace)  # what it was told before is as old as it was behind
    return False


def _read(session: Session, reading: Reading) -> bool:
    """Read on for a `history`, and answer it if that was all; return whether there is more."""
    page = reading.step()
    if page is None:
        return True
    session.outbox.is_held = False
    try:
        session.check_filter(Action.HISTORY, reading.filter)  # it may have been allowed when it was asked for
    except RefusedError as error:
        session.send(error_event(page.id, error.code, error.message, error.retry_after))
        return False
    grants = session.outbox.grants
    if grants is not None:
        page.messages = [message for message in page.messages if grants.allows(Action.HISTORY, message.topic)]
    session.send(page)
    return False


def _replay(session: Session, subscription: Subscription, most: int) -> bool:
    """Queue a page of a replay; return whether there is more."""
    replay, namespace = subscription.replay, subscription.namespace
    if replay is None or namespace is None:
        return False
    gap = replay.take_gap()
    if gap is not None:
        session.send_gap(subscription, gap)
    outbox, grants = session.outbox, session.outbox.grants
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
        if not outbox.offer(ReplayedFrame(encode_text_frame(payload), namespace.account)):
            return False
        if _has_page_queued(outbox):
            break
    if not replay.is_done:
        return True
    subscription.replay = None
    session.attach(subscription)
    session.send(Live(sub=subscription.id, seq=namespace.log.head))
    return False


def _has_page_queued(outbox: Outbox) -> bool:
    return (
        outbox.held >= min(_PAGE_BYTES, outbox.max_bytes // _PAGES_PER_OUTBOX)
        or outbox.account.queued * _PAGES_PER_OUTBOX >= outbox.max_messages
    )

"""Which connections must be told how far they are, so that none resumes from a position that expired.

A subscriber to a rare topic in a busy namespace hears nothing for long. If it
resumed from the last message it got, the log might have moved on, and the
broker would have to announce a gap although nothing was missed. So before the
last position it was told has aged half the log, it gets a `position` notice.
That is looked after once a second, with the rest of the housekeeping. A log
that has turned over since the last look can hardly be resumed from at all, so
that telling everybody where it is would cost much and save nothing: then it is
done every ten seconds, and as soon as the log has become slower.

Whether it heard of a later seq by a message is not asked: that message may
have been for another of its subscriptions, and asking would cost a note per
delivery, more than the one notice in half a log that it could save.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from .log import Log
    from .session import Session

_PER_LOG = 2  # notices in the time that the log takes to turn over
_AT_ONCE = 64  # notices in one step
_LEAST = 0.5  # seconds between two looks by which it can be told how fast the log is
_SELDOM = 10.0  # seconds between two rounds of notices where the log is too fast to be resumed from


@frozen
class _Turn:
    """Where the log stood when a session was last told."""

    seq: int
    appended: int
    at: float


@define(eq=False)
class PositionWatch:
    """The subscribers of one namespace, in the order in which their turns come.

    Attributes:
        tell: sends the notice to a session.
        is_fast: whether the log turned over between the last two looks, so that nobody could resume from it.
    """

    log: Log = field(repr=False)
    tell: Callable[[Session], None] = field(repr=False)
    is_fast: bool = False
    _queue: OrderedDict[Session, _Turn] = field(factory=OrderedDict, repr=False)
    _last_look: _Turn = field(factory=lambda: _Turn(0, 0, -math.inf))
    _last_round: float = -math.inf

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, session: Session, now: float) -> None:
        """Begin to look after a session, which has just been told the head."""
        self._queue[session] = _Turn(self.log.head, self.log.appended, now)

    def discard(self, session: Session) -> None:
        """Look after a session no longer."""
        self._queue.pop(session, None)

    def look(self, now: float, head: int) -> bool:
        """Tell those whose turn has come, as many as one step allows; return whether there are more of them."""
        queue = self._queue
        self._look_at_log(now)
        if self.is_fast and 0 < now - self._last_round < _SELDOM:
            return False
        self._last_round = now
        for _ in range(_AT_ONCE):
            turn = next(iter(queue.values()), None)
            if turn is None or not self._is_due(turn, now, head):
                return False
            session, _ = queue.popitem(last=False)
            self.add(session, now)
            self.tell(session)
        return True

    def _look_at_log(self, now: float) -> None:
        """Find out whether the log turns over between two looks."""
        last, log = self._last_look, self.log
        if now - last.at >= _LEAST:
            turnover = (log.head - last.seq) >= log.settings.messages
            self.is_fast = turnover or log.appended - last.appended >= log.settings.bytes
            self._last_look = _Turn(log.head, log.appended, now)

    def _is_due(self, turn: _Turn, now: float, head: int) -> bool:
        bounds = self.log.settings
        behind = head - turn.seq
        return behind > 0 and (
            behind * _PER_LOG >= bounds.messages
            or (self.log.appended - turn.appended) * _PER_LOG >= bounds.bytes
            or (bounds.seconds is not None and (now - turn.at) * _PER_LOG >= bounds.seconds)
        )

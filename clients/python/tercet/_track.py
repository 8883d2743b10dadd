"""How far one subscription has come in its namespace, and where it would resume.

Rules (protocol.md, section 4):

- `reached` moves only over what was put into the buffer, so that to resume
  there loses nothing; it never moves past a retained value, which says nothing
  of what lies before it.
- `seen` is the highest seq that came as a message: what is not above it is a
  repeat. A gap does not move it, because older kept messages may follow one.
- In a namespace that conflates, live messages may come out of order, and a gap
  may come before them. They move neither; `position` notices do.
"""

from __future__ import annotations

from attrs import define, field

import tercet_protocol as protocol
from tercet_protocol import GapReason, Position

from ._message import Gap, gap_from


@define(eq=False)
class Track:
    """The place of one subscription within one namespace (None: it spans namespaces)."""

    namespace: str | None
    reached: Position | None  # where to resume; None: not before the original request is repeated
    epoch: str | None = field(default=None, init=False)
    _seen: int = field(default=0, init=False)
    _conflated: bool = field(default=False, init=False)
    # The head when the subscription took effect, until `reached` is known: if
    # it has to start over, what was published since then was promised.
    _promised: Position | None = field(default=None, init=False)
    _head_after_restart: int | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.reached is not None:
            self.epoch, self._seen = self.reached.epoch, self.reached.seq

    def subscribed(self, event: protocol.Subscribed) -> None:
        """Take in where the subscription took effect; `went_live` follows if it is live at once."""
        if self.namespace is None or event.epoch is None:
            return
        head = event.seq or 0
        if event.epoch != self.epoch:
            self.epoch, self._seen = event.epoch, 0
        self._conflated = bool(event.conflated)
        if self._promised is not None:
            self._head_after_restart = head
        elif self.reached is None:
            self._promised = Position(event.epoch, head)

    def is_repeat(self, seq: int) -> bool:
        """Tell whether the message `seq` was handed over before."""
        return self.namespace is not None and seq <= self._seen

    def bridge(self, seq: int) -> Gap | None:
        """Return what may be missing behind `seq`, after which comes a message or a mark.

        Something may be if the first replay was started over: what was
        published between the two starts was promised, and what has left the
        log's run since then is in no replay. Which of it did come cannot be
        told before the end, so the gap covers it all.
        """
        promised, head = self._promised, self._head_after_restart
        if promised is None or head is None:
            self._promised = None
            return None
        is_same = promised.epoch == self.epoch
        after = promised.seq if is_same else 0
        if is_same and seq < after:
            return None  # what comes is older than the promise
        self._promised = self._head_after_restart = None
        if is_same and head <= after:
            return None
        return Gap(self.namespace, self.epoch, after, head, None, GapReason.RECONNECTED)

    def replayed(self, seq: int, *, retained: bool) -> Position | None:
        """Take in a message of the replay; return where the application is once it has it."""
        self._seen = max(self._seen, seq)
        return None if retained else self._reach(seq)

    def delivered(self, seq: int) -> Position | None:
        """Take in a live message; return where the application is once it has it."""
        if self.namespace is None or self._conflated:
            return None
        self._seen = seq
        return self._reach(seq)

    def went_live(self, seq: int) -> Position | None:
        """Take in that everything up to `seq` was replayed."""
        if self.namespace is None:
            return None
        self._seen = max(self._seen, seq)
        return self._reach(seq)

    def noticed(self, event: protocol.PositionEvent) -> Position | None:
        """Take in a `position`; return it if it leads on."""
        if event.epoch != self.epoch or (self.reached is not None and event.seq <= self.reached.seq):
            return None
        return self._reach(event.seq)

    def lost(self, event: protocol.Gap) -> tuple[Gap, Position | None]:
        """Take in a gap; return it for the application, and where that is once it was told."""
        gap = gap_from(event, self.namespace)
        if self.namespace is None:
            return gap, None
        if event.epoch != self.epoch:
            self.epoch, self._seen = event.epoch, 0
        if event.reason == GapReason.UNKNOWN_POSITION:
            # `since` was ahead of the head: the sequence begins anew for us.
            self._seen = 0
            self.reached = None
        self._promised = self._head_after_restart = None
        if self._conflated and event.sub is None:
            return gap, None  # older values of other topics may follow
        return gap, self._reach(event.through)

    def _reach(self, seq: int) -> Position | None:
        if self.epoch is None:
            return None
        if self.reached is None or self.reached.epoch != self.epoch or self.reached.seq < seq:
            self.reached = Position(self.epoch, seq)
        return self.reached

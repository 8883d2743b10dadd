"""What a subscription hands out: messages, gaps, and the mark where live begins."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from attrs import frozen

import tercet_protocol as protocol
from tercet_protocol import GapReason, Position


@frozen
class Message:
    """One published message, as it was delivered to one subscription.

    Attributes:
        topic: what it is about.
        seq: its place in the sequence of the topic's namespace, from 1.
        epoch: the sequence's incarnation, or None where it is not known: on a
            subscription whose filter spans namespaces.
        time: the broker's clock when it was published, milliseconds since 1970.
        raw: the data as it was published, byte for byte; JSON in UTF-8.
        retained: whether it was replayed as a topic's last value.
    """

    topic: str
    seq: int
    epoch: str | None
    time: int
    raw: bytes
    retained: bool = False

    @cached_property
    def data(self) -> Any:
        """The data as a Python value, decoded when first asked for.

        Raises:
            ValueError: Python cannot hold it (nested too deep, a lone
                surrogate). The broker checks no more than the syntax.
        """
        return protocol.from_json(self.raw)

    @property
    def position(self) -> Position | None:
        """Where it stands; None where the epoch is not known."""
        return None if self.epoch is None else Position(self.epoch, self.seq)


@frozen
class Gap:
    """Messages in (`after`, `through`] that matched may be missing here.

    Attributes:
        namespace: where, or None on a filter that spans namespaces.
        epoch: of `after` and `through`.
        after: the last seq before the gap.
        through: the last seq of the gap.
        dropped: how many were lost, where that is known.
        reason: why; a reason that this version does not know is given as text.

    `epoch`, `after` and `through` are None where the client does not know.
    """

    namespace: str | None
    epoch: str | None
    after: int | None
    through: int | None
    dropped: int | None
    reason: GapReason | str

    def __str__(self) -> str:
        where = "several namespaces" if self.namespace is None else self.namespace
        span = "" if self.after is None else f" after {self.after} through {self.through}"
        if self.reason is GapReason.EPOCH and not self.through:
            span = ": the broker has begun anew, and everything after your position is lost"
        count = "" if self.dropped is None else f", {self.dropped} dropped"
        return f"{self.reason} in {where}{span}{count}"


@frozen
class Live:
    """What was kept has been handed out; what follows is live.

    Attributes:
        position: through which everything was handed out, or None on a filter
            that spans namespaces.
    """

    position: Position | None


@frozen
class Published:
    """A message was published.

    Attributes:
        position: where it stands in its namespace.
        duplicate: it had been published under this key before, there; this
            time nothing was.
    """

    position: Position
    duplicate: bool = False


@frozen
class HistoryPage:
    """A part of a namespace's log.

    Attributes:
        messages: oldest first.
        next: the position that was read through, also where nothing matched;
            give it as `since` to read on.
        head: the newest position of the namespace.
        more: whether there is something after `next`.
        gap: what the log no longer has of what was asked for.
        since: where the newest were asked for, and the broker met a bound before it had as many: the position after
            which these are all that match.
    """

    messages: tuple[Message, ...]
    next: Position
    head: Position
    more: bool
    gap: Gap | None
    since: Position | None = None


def message_from(event: protocol.Message, epoch: str | None) -> Message:
    """Return what came over the wire as the application sees it."""
    return Message(event.topic, event.seq, epoch, event.time, bytes(event.data), event.retained)


def gap_from(event: protocol.Gap, namespace: str | None) -> Gap:
    """Return what came over the wire as the application sees it."""
    reason: GapReason | str
    try:
        reason = GapReason(event.reason)
    except ValueError:
        reason = event.reason
    return Gap(event.namespace or namespace, event.epoch, event.after, event.through, event.dropped, reason)

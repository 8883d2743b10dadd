"""What stands in a connection's queue (frame_queue.py): whole WebSocket frames, one by one or as a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrs import define

from tercet_protocol import Gap, GapReason, encode, encode_text_frame

from .log import Record

if TYPE_CHECKING:
    from .accounting import Account


class Delivery(Protocol):
    """A frame that the books know: a log record (shared by all its receivers) or a replayed copy."""

    @property
    def frame(self) -> bytes:
        """The whole WebSocket frame."""

    @property
    def account(self) -> Account:
        """The account of its namespace."""


@define(eq=False)
class ReplayedFrame:
    """A delivery that is meant for one subscription only."""

    frame: bytes
    account: Account


@define(eq=False)
class Notice:
    """A frame that is no delivery."""

    frame: bytes


@define(eq=False)
class Newest:
    """The place of one topic in the queue, with the newest message that has come to it.

    Attributes:
        first: seq of the message that took the place; what has replaced it is newer.
        seq: seq of the one that is there now.
    """

    topic: str
    frame: bytes
    account: Account
    first: int
    seq: int


@define(eq=False)
class LossNotice(Notice):
    """A `gap` that stands where deliveries of one namespace were dropped, and grows with them."""

    account: Account
    namespace: str
    epoch: str
    after: int
    through: int
    dropped: int = 0

    def cover(self, after: int, through: int, dropped: int) -> None:
        """Take in what was dropped beside it."""
        self.after = min(self.after, after)
        self.through = max(self.through, through)
        self.dropped += dropped
        gap = Gap(
            namespace=self.namespace,
            epoch=self.epoch,
            after=self.after,
            through=self.through,
            reason=GapReason.OVERFLOW,
            dropped=self.dropped,
        )
        self.frame = encode_text_frame(encode(gap))


@define(eq=False)
class Run:
    """Several messages of one namespace as one item of many queues.

    Attributes:
        frame: their frames, joined.
        size: its bytes.
        count: how many they are.
        account: the books of the namespace.
    """

    records: list[Record]
    frame: bytes
    size: int
    count: int
    account: Account

    @classmethod
    def of(cls, records: list[Record]) -> Run:
        """Join records."""
        frame = records[0].frame if len(records) == 1 else b"".join([record.frame for record in records])
        return cls(records, frame, len(frame), len(records), records[0].account)


Item = Delivery | Run | Notice
"""What is queued."""


def seq_range(item: Delivery) -> tuple[int, int]:
    """Return the seq of what first stood in the place of a live delivery, and of what stands there now."""
    if isinstance(item, Newest):
        return item.first, item.seq
    assert isinstance(item, Record), "the only other live delivery"  # noqa: S101 - an invariant of the queue
    return item.seq, item.seq

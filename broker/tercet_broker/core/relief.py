"""Relief: what is dropped from a queue that is full, and the gaps that say so.

A `gap` stands where the first of what was dropped stood, and grows with what
is dropped behind it, but not across a reply or another notice that is no gap:
what stands behind that may have been for a subscription of which the client
learns by it. Where nothing could be dropped but what arrived, the gap stands at
the end of the queue.

A queue of many thousand frames is not walked through each time. Each time that
it is, a part of its length is dropped at once; and from where on there may be
anything of a namespace to drop is remembered. What comes in comes in behind
that place, so it moves only with what is taken out before it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from attrs import define, field

from .log import Record
from .queued import Item, LossNotice, Newest, Notice, ReplayedFrame, Run, seq_range

if TYPE_CHECKING:
    from .accounting import Account
    from .frame_queue import FrameQueue

# A long queue that overflows is relieved of this part of its length at once: each time it is walked through.
SHARE = 16


@define(eq=False)
class _Begin:
    """Before this place nothing of a namespace can be dropped.

    Attributes:
        place: how many items there are before it.
        gap: the gap of the namespace that grows with what is dropped from there on, being the last before it with no
            notice between.
        gap_place: it stands there, or behind that.
    """

    place: int = 0
    gap: LossNotice | None = None
    gap_place: int = 0


@define(eq=False)
class Relief:
    """What is known of one queue, while there is anything.

    Attributes:
        last_gaps: {books of a namespace: its gap at the end of the queue}, with nothing behind it that is of the
            namespace, nor a notice that is no gap. Of such a namespace nothing is queued that could be dropped.
    """

    last_gaps: dict[Account, LossNotice] = field(factory=dict)
    _begins: dict[Account, _Begin] = field(factory=dict)

    def forget(self, gap: LossNotice) -> None:
        """Hear that the socket has taken a gap."""
        books = gap.account
        if self.last_gaps.get(books) is gap:
            del self.last_gaps[books]
        begin = self._begins.get(books)
        if begin is not None and begin.gap is gap:
            begin.gap = None

    def move(self, first: int, end: int, count: int) -> None:
        """Hear that the items of [first, end) have been replaced by so many others."""
        growth = count - (end - first)
        for begin in self._begins.values():
            if begin.place >= end:
                begin.place += growth
                begin.gap_place = begin.gap_place + growth if begin.gap_place >= end else min(begin.gap_place, first)
            elif begin.place > first:
                # As good as it was, only further from what there is. The gap comes again on the way.
                begin.place = first if begin.gap is None else min(begin.gap_place, first)
                begin.gap = None

    def drop_oldest(self, queue: FrameQueue, loss: LossNotice, max_messages: int, max_bytes: int) -> None:
        """Drop live deliveries of the namespace of `loss` from the front, until so much at most is queued.

        Replays stay: what they miss would be another gap.
        """
        books, account, items = loss.account, queue.account, queue.items
        begin = self._begins.setdefault(books, _Begin())
        place = change = max(begin.place, 1 if queue.sent_of_first else 0)
        gap = None if begin.gap is None or queue.is_begun(begin.gap) else begin.gap
        gap_place = begin.gap_place
        kept, is_changed = list[Item](), False  # of what was looked at from the first change on
        while place < len(items) and (account.queued > max_messages or queue.size - queue.notice_bytes > max_bytes):
            item = items[place]
            if isinstance(item, Run) and item.account is books:
                queue.replace_items(place, place + 1, item.records)
                continue
            place += 1
            if isinstance(item, LossNotice):
                if item.account is books:
                    if gap is not None and gap is not item:
                        queue.forget_notice(item)
                        queue.grow(gap, item.after, item.through, item.dropped)
                        is_changed = True
                        continue
                    gap = item
                    gap_place = change + len(kept) if is_changed else place - 1
            elif isinstance(item, Notice):
                gap = None
            elif item.account is books and not isinstance(item, ReplayedFrame):
                first, seq = seq_range(item)
                queue.forget_delivery(item)
                if gap is None:
                    gap = LossNotice(b"", books, loss.namespace, loss.epoch, first - 1, seq)
                    queue.notices += 1
                    gap_place = change + len(kept)
                    kept.append(gap)
                queue.grow(gap, first - 1, seq, 1)
                is_changed = True
                continue
            if is_changed:
                kept.append(item)
            else:
                change = place
        queue.replace_items(change, place, kept)
        begin.place, begin.gap, begin.gap_place = change + len(kept), gap, gap_place

    def miss(self, queue: FrameQueue, loss: LossNotice, seq: int) -> None:
        """Announce at the end of a queue that what arrived was dropped; `loss` is the gap if it is a new one."""
        gap = self.last_gaps.get(loss.account)
        if gap is None or queue.is_begun(gap):
            gap = self.last_gaps[loss.account] = loss
            queue.fix_places()  # nothing moves across a gap
            queue.append_notice(gap)
        queue.grow(gap, gap.after, seq, 1)


def find_most(queue: FrameQueue, behind: Container[Account]) -> Record | Newest | None:
    """Return a live delivery of the namespace that has most of them queued and is not `behind`."""
    counts: dict[Account, int] = {}
    found: dict[Account, Record | Newest] = {}
    for item in queue.items:
        if isinstance(item, Notice | ReplayedFrame) or item.account in behind:
            continue
        delivery = item.records[0] if isinstance(item, Run) else item
        assert isinstance(delivery, Record | Newest), "the only live deliveries"  # noqa: S101 - an invariant
        counts[item.account] = counts.get(item.account, 0) + (item.count if isinstance(item, Run) else 1)
        found[item.account] = delivery
    return found[max(counts, key=counts.__getitem__)] if counts else None

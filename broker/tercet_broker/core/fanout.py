"""The fan-out: what was published, on its way into the queues of those who get it.

Messages that go to the same connections, one behind the other, are collected
as a *run* and enter each queue as one item, whose bytes are joined once for
all. So what a delivery costs is shared: a burst of ten messages to a hundred
connections is a hundred items, not a thousand.

At most one run is open. It is settled, that is: offered to its connections,

- when a message for others comes, or the run is long (but a message for a few
  who are not among those of the run is offered by itself: it costs little, and
  to settle what goes to a crowd would cost much);
- before any other request than a publish is served, and before a session
  ends: it goes to those who were subscribed when it was published;
- before anything else enters a queue that it goes to, so that each queue has
  one order, the order of what happened;
- and by whoever was asked to do it soon (`settle_soon`), once everybody who
  has something to publish had their turn. Without such a helper each message
  is settled at once.

Nothing outside can tell when it is: a message in an open run is published,
and its connections' queues and books show neither more nor less than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from .accounting import Account
    from .log import Record
    from .outbox import Outbox

# A message for so few connections need not wait for what goes to a crowd that they are not part of.
_FEW = 16
# A run is joined in memory beside the log, and a queue takes it as a whole.
_MAX_BYTES = 64 * 1024
_NOBODY: Collection[Outbox] = ()


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


@define(eq=False)
class FanOut:
    """What was published and has not been offered yet.

    Attributes:
        settle_soon: called when a run was opened, to have `settle` called soon.
        targets: the outboxes that the open run goes to; empty when there is none.
    """

    settle_soon: Callable[[], None] | None = None
    targets: Collection[Outbox] = _NOBODY
    _records: list[Record] = field(factory=list, repr=False)
    _size: int = 0

    def add(self, record: Record, targets: Collection[Outbox]) -> None:
        """Have a message offered to its connections.

        `targets` must never be changed afterwards: that the next message goes
        to the same ones is known by its being the same object.
        """
        if targets is not self.targets or self._size >= _MAX_BYTES or record.account is not self._records[-1].account:
            if self._records and len(targets) <= _FEW and not any(outbox in self.targets for outbox in targets):
                _offer(record, targets)
                return
            self.settle()
            if not targets:
                return
            self.targets = targets
            if self.settle_soon is not None:
                self.settle_soon()
        self._records.append(record)
        self._size += len(record.frame)
        if self.settle_soon is None:
            self.settle()

    def settle(self, most: float = math.inf) -> None:
        """Offer the open run, if there is one, and if it goes to `most` connections at most."""
        targets, records = self.targets, self._records
        if not records or len(targets) > most:
            return
        self.targets, self._records, self._size = _NOBODY, [], 0
        first = records[0]
        if len(records) == 1:
            _offer(first, targets)
            return
        frame = b"".join([record.frame for record in records])
        run = Run(records, frame, len(frame), len(records), first.account)
        for outbox in targets:
            outbox.offer_run(run)

    def replace(self, record: Record, targets: Collection[Outbox]) -> None:
        """Offer a message at once, in place of a queued one of its topic."""
        self.settle()
        for outbox in targets:
            outbox.offer_newest(record)


def _offer(record: Record, targets: Collection[Outbox]) -> None:
    for outbox in targets:
        outbox.offer(record)

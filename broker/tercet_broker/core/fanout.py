"""The fan-out: what was published, on its way into the queues of those who get it.

Messages that go to the same connections, one behind the other, are collected
as a *run*, whose bytes are joined once for all. So what a delivery costs is
shared: a burst of ten messages to a hundred connections is a hundred writes,
not a thousand.

At most one run is open. It is closed and sent once everybody who has something
to publish had their turn: whoever was asked to do it soon (`settle_soon`)
calls `close_run`, and `send` until all have it. A connection in whose queue
nothing stands gets it without any detour through that queue.

Others cannot always wait for that. Then the fan-out is *settled*: the runs are
put into the queues of those who have not got them, in one step,

- when a message for others comes, or the run is long (but a message for a few
  who are not among those of a run is offered by itself: it costs little, and
  to settle what goes to a crowd would cost much);
- before any other request than a publish is served, and before a session
  ends: it goes to those who were subscribed when it was published;
- before anything else enters a queue that it goes to, so that each queue has
  one order, the order of what happened.

Without such a helper each message is settled at once. No client can tell when
it is, and whoever asks for statistics has it settled first; `Broker.accounts`
alone shows the books without what is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from attrs import define, field

from .queued import Run

if TYPE_CHECKING:
    from .log import Record
    from .outbox import Outbox

# A message for so few connections need not wait for what goes to a crowd that they are not part of.
_FEW = 16
# A run is joined in memory beside the log, and a queue takes it as a whole.
_MAX_BYTES = 64 * 1024
# Bytes sent in one step: encrypting so many takes some milliseconds.
_MAX_STEP = 2 * 1024 * 1024
_NOBODY: Collection[Outbox] = ()


@define(eq=False)
class _Sending:
    """A run on its way to its connections.

    Attributes:
        targets: all that it goes to.
        left: those that have not got it yet.
    """

    run: Run
    targets: Collection[Outbox]
    left: Iterator[Outbox]


@define(eq=False)
class FanOut:
    """What was published and has not been offered to all who get it.

    Attributes:
        settle_soon: called when a run was opened, to have it sent soon.
        is_for_crowd: whether what is being put into queues goes to many: whoever writes these may let others go first.
    """

    settle_soon: Callable[[], None] | None = None
    is_for_crowd: bool = False
    _records: list[Record] = field(factory=list, repr=False)  # of the open run, and …
    _targets: Collection[Outbox] = _NOBODY  # … where it goes; empty when there is none
    _size: int = 0
    _sending: _Sending | None = field(default=None, repr=False)  # the run before that

    def add(self, record: Record, targets: Collection[Outbox]) -> None:
        """Have a message offered to its connections.

        `targets` must never be changed afterwards: that the next message goes
        to the same ones is known by its being the same object.
        """
        if targets is not self._targets or self._size >= _MAX_BYTES or record.account is not self._records[-1].account:
            if not targets:
                return
            if self._records:
                if len(targets) <= _FEW and not any(self.goes_to(outbox) for outbox in targets):
                    for outbox in targets:
                        outbox.offer(record)
                    return
                self.settle()
            self._targets = targets
            if self.settle_soon is not None:
                self.settle_soon()
        self._records.append(record)
        self._size += len(record.frame)
        if self.settle_soon is None:
            self.settle()

    def goes_to(self, outbox: Outbox) -> bool:
        """Whether a connection may be among those who still have to get something."""
        return outbox in self._targets or (self._sending is not None and outbox in self._sending.targets)

    def close_run(self) -> None:
        """Have the open run sent from now on."""
        self._finish_sending()  # (which may settle the open one too)
        if self._records:
            records, targets = self._take_open()
            self._sending = _Sending(Run.of(records), targets, iter(targets))

    def send(self, most: int, now: float) -> bool:
        """Send the closed run to the next `most` connections; return whether there are more. One step."""
        sending = self._sending
        if sending is None:
            return False
        run, passed, reached = sending.run, 0, 0
        most = max(1, min(most, _MAX_STEP // run.size))
        for outbox in islice(sending.left, most):
            reached += 1
            passed += outbox.pass_run(run, now)
        # What the sockets took at once is booked at once for all of them.
        passed *= run.count
        run.account.offered += passed
        run.account.delivered += passed
        if reached < most and self._sending is sending:
            self._sending = None
        return self._sending is not None

    def settle(self) -> None:
        """Offer whatever is on its way to all who have not got it."""
        self._finish_sending()
        self._settle_open()

    def settle_few(self, most: int) -> None:
        """Offer the open run, if it goes to `most` connections at most, and to none that the closed one goes to."""
        sending, targets = self._sending, self._targets
        if len(targets) <= most and (sending is None or not any(outbox in sending.targets for outbox in targets)):
            self._settle_open()

    def _settle_open(self) -> None:
        if self._records:
            records, targets = self._take_open()
            if len(records) == 1:
                for outbox in self._each(targets, targets):
                    outbox.offer(records[0])
            else:
                self._offer_run(Run.of(records), targets, targets)

    def _take_open(self) -> tuple[list[Record], Collection[Outbox]]:
        open_ = self._records, self._targets
        self._targets, self._records, self._size = _NOBODY, [], 0
        return open_

    def _finish_sending(self) -> None:
        sending = self._sending
        if sending is not None:
            # It stays in sight until all have it: one who is cut off by it has everything settled once more, and what
            # was published later must not overtake it on the way to the others.
            self._offer_run(sending.run, sending.targets, sending.left)
            if self._sending is sending:
                self._sending = None

    def _offer_run(self, run: Run, targets: Collection[Outbox], left: Iterable[Outbox]) -> None:
        for outbox in self._each(targets, left):
            outbox.offer_run(run)

    def _each(self, targets: Collection[Outbox], left: Iterable[Outbox]) -> Iterator[Outbox]:
        """Yield those of the targets that are left; whoever writes sees meanwhile whether they are a crowd."""
        before, self.is_for_crowd = self.is_for_crowd, len(targets) > _FEW
        yield from left
        self.is_for_crowd = before

    def replace(self, record: Record, targets: Collection[Outbox]) -> None:
        """Offer a message at once, in place of a queued one of its topic."""
        self.settle()
        for outbox in self._each(targets, targets):
            outbox.offer_newest(record)

"""A namespace's kept messages: one unbroken run, and the newest few of each topic beyond it.

The run is bounded in messages, bytes and seconds. Every record stands in the
run in the order of its seq, and in the `records` of its topic, so that both
"everything after 57" and "the newest ten of this topic" are found without a
search. A topic's records outlive the run while they are among its newest
`per_topic`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from attrs import define, field

from .ordered import OrderedRecords

if TYPE_CHECKING:
    from .accounting import Account
    from .settings import HistorySettings
    from .topic import Topic

_COMPACT = 1024  # trimmed places at the front of the list before it is worth moving the rest


class Record(msgspec.Struct, eq=False, weakref=True):
    """A published message, as the log keeps it and as every subscriber gets it.

    A struct of msgspec, because one is made for each message, in a third of the time.

    Attributes:
        frame: the whole WebSocket frame of the live message, encoded once.
        data_size: how many bytes before the frame's last one are the message's data.
        at: when it was published, in monotonic seconds.
        muted: the connection that shall not get it (`echo: false`), or 0.
        account: the books of its namespace.
    """

    topic: Topic
    seq: int
    time: int
    at: float
    frame: bytes
    data_size: int
    muted: int
    account: Account

    def __repr__(self) -> str:
        return f"Record({self.topic.name!r}, seq={self.seq})"

    @property
    def data(self) -> bytes:
        """The message's data, byte for byte as it was published."""
        return self.frame[-self.data_size - 1 : -1]


@define(eq=False)
class Log:
    """The records of one namespace.

    Attributes:
        head: seq of the newest record there ever was; 0 before the first.
        size: bytes of the run's frames.
        appended: bytes of all frames ever appended.
        beyond: the records that topics keep beyond the run. Each of them is older than the run.
    """

    settings: HistorySettings
    max_topics: int  # with records beyond the run
    head: int = 0
    size: int = 0
    appended: int = 0
    beyond: OrderedRecords = field(factory=OrderedRecords, repr=False)
    _run: list[Record | None] = field(factory=list, repr=False)
    _start: int = 0  # where in _run the oldest record stands
    # The topics with records beyond the run: those that are in it as well, and those that are not,
    # in the order in which they were last published to.
    _busy: OrderedDict[Topic, None] = field(factory=OrderedDict, repr=False)
    _quiet: OrderedDict[Topic, None] = field(factory=OrderedDict, repr=False)
    _beyond_size: int = 0  # bytes of the frames that topics keep beyond the run

    @property
    def first(self) -> int:
        """Seq of the oldest record of the run; head + 1 when it is empty."""
        return self.head + 1 - len(self)

    def __len__(self) -> int:
        return len(self._run) - self._start

    def __getitem__(self, seq: int) -> Record:
        """Return the run's record number `seq`; IndexError if the run does not reach it."""
        place = self._start + seq - self.first
        if not self._start <= place < len(self._run):
            raise IndexError(seq)
        record = self._run[place]
        assert record is not None, "places from _start on are filled"  # noqa: S101 - an invariant of this class
        return record

    def covers(self, seq: int) -> bool:
        """Tell whether everything after `seq` is still in the run."""
        return self.first - 1 <= seq <= self.head

    def after(self, seq: int, limit: int) -> Iterator[Record]:
        """Yield the run's records that follow `seq`, `limit` at most."""
        begin = self._start + max(seq + 1 - self.first, 0)
        for place in range(begin, min(begin + limit, len(self._run))):
            record = self._run[place]
            if record is not None:
                yield record

    def before(self, seq: int, limit: int) -> Iterator[Record]:
        """Yield the run's records that go before `seq`, newest first, `limit` at most."""
        end = self._start + min(seq - self.first, len(self))
        for place in range(end - 1, max(end - limit, self._start) - 1, -1):
            record = self._run[place]
            if record is not None:
                yield record

    def append(self, record: Record) -> None:
        """Add the next record (its seq is head + 1) and trim what no longer fits, or is too old."""
        size, topic, bounds = len(record.frame), record.topic, self.settings
        self.head = record.seq
        self.size += size
        self.appended += size
        self._run.append(record)
        topic.records.append(record)
        if bounds.per_topic and (topic in self._quiet or topic in self._busy):
            self._note_busy(topic)
        while self.size > bounds.bytes or len(self._run) - self._start > bounds.messages:
            if len(self._run) - self._start == 1:
                break  # the newest stays, however large
            self._trim()
        if bounds.seconds is not None:
            self.expire(record.at)

    def expire(self, now: float, most: int | None = None) -> bool:
        """Trim the records that have become too old by `now`, `most` at most; return whether there may be more."""
        seconds = self.settings.seconds
        if seconds is None:
            return False
        for _ in range(len(self) if most is None else min(most, len(self))):
            oldest = self._run[self._start]
            if oldest is None or oldest.at > now - seconds:
                return False
            self._trim()
        return len(self) > 0

    def _trim(self) -> None:
        """Let the oldest record leave the run."""
        record = self._run[self._start]
        if record is None:
            return
        self._run[self._start] = None
        self._start += 1
        self.size -= len(record.frame)
        topic = record.topic
        if self.settings.per_topic:
            self._beyond_size += len(record.frame)
            self.beyond.append(record)
            if topic.records[-1] is record:
                self._busy.pop(topic, None)
                self._quiet[topic] = None
            else:
                self._busy.setdefault(topic)
                self._thin(topic)
            while self._beyond_size > self.settings.bytes or len(self._quiet) + len(self._busy) > self.max_topics:
                self._forget_quietest()
        else:
            topic.records.popleft()
            if not topic.records:
                topic.release()
        if self._start >= _COMPACT and self._start * 2 >= len(self._run):
            del self._run[: self._start]
            self._start = 0

    def _note_busy(self, topic: Topic) -> None:
        """Note that a topic with records beyond the run was published to."""
        self._quiet.pop(topic, None)
        self._busy[topic] = None
        self._busy.move_to_end(topic)
        self._thin(topic)

    def _thin(self, topic: Topic) -> None:
        """Drop the records of a busy topic that are neither in the run nor among its newest few."""
        records = topic.records
        first = self.first
        while len(records) > self.settings.per_topic and records[0].seq < first:
            self._drop_oldest(topic)
        if records[0].seq >= first:
            del self._busy[topic]

    def _forget_quietest(self) -> None:
        """Drop what is kept beyond the run for the topic that was published to longest ago."""
        topic, _ = (self._quiet or self._busy).popitem(last=False)
        first = self.first
        while topic.records and topic.records[0].seq < first:
            self._drop_oldest(topic)
        topic.release()

    def _drop_oldest(self, topic: Topic) -> None:
        """Keep the oldest record of a topic, which is beyond the run, no longer."""
        record = topic.records.popleft()
        self.beyond.remove(record)
        self._beyond_size -= len(record.frame)

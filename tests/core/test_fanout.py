"""The fan-out by runs: whatever way a message takes to a socket, each connection gets one order."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from attrs import define, field
from hypothesis import given, settings

from tercet_broker.core.accounting import Account
from tercet_broker.core.fanout import FanOut
from tercet_broker.core.log import Record
from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery
from tercet_broker.core.topic import Topic

NOW = 7.0
CROWDS = ((0, 1, 2, 3), (0, 1), (2,), ())
TOPIC = Topic("a/b", ("a", "b"), b'"a/b"', lambda _: None)


@define(eq=False)
class Reader:
    """A connection with room for 6 deliveries, and what its socket has taken.

    Attributes:
        room: bytes that the socket takes of what is written past the queue.
        expected: what was sent to it, in order; nothing is added once something had to be dropped.
    """

    fan_out: FanOut
    room: int = 0
    taken: bytes = b""
    expected: bytes = b""
    dropped: int = 0
    is_broken: bool = False
    gives_up: bool = False  # at its first overflow, and has everything settled then, as a session does
    has_ended: bool = False
    outbox: Outbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(1, 6, 1000, 100, wake=lambda: None, overflow=self.overflow, fan_out=self.fan_out)
        self.outbox.write = self.write

    def write(self, data: bytes) -> int:
        assert not len(self.outbox), "nothing overtakes the queue"
        if self.is_broken:
            raise BrokenPipeError
        piece = data[: self.room]
        self.room -= len(piece)
        self.taken += piece
        return len(piece)

    def overflow(self, delivery: Delivery) -> bool:
        self.dropped += 1
        self.outbox.refuse(delivery)
        if self.gives_up and not self.has_ended:
            self.has_ended = True
            self.fan_out.settle()
        return not self.has_ended

    def flush(self, count: int) -> None:
        data = self.outbox.peek(count)[:count]
        self.outbox.sent(len(data))
        self.taken += data


@define(eq=False)
class Hall:
    """Readers of one namespace, some of whom are in each crowd."""

    fan_out: FanOut = field(factory=FanOut)
    books: Account = field(factory=Account)
    readers: list[Reader] = field(init=False)
    crowds: list[dict[Outbox, None]] = field(init=False)
    added: Counter[int] = field(factory=Counter)
    _seqs: itertools.count[int] = field(factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        self.fan_out.settle_soon = lambda: None
        self.readers = [Reader(self.fan_out) for _ in range(4)]
        self.crowds = [{self.readers[number].outbox: None for number in crowd} for crowd in CROWDS]

    def publish(self, crowd: int) -> None:
        seq = next(self._seqs)
        frame = b"<%d>" % seq
        self.fan_out.add(Record(TOPIC, seq, 0, 0.0, frame, 0, 0, self.books), self.crowds[crowd])
        for number in CROWDS[crowd]:
            self.added[number] += 1
            self.readers[number].expected += frame

    def do_publish(self, crowd: int, count: int) -> None:
        for _ in range(count):
            self.publish(crowd)

    def do_close(self, *_: int) -> None:
        self.fan_out.close_run()

    def do_send(self, most: int, room: int) -> None:
        for reader in self.readers:
            reader.room = room
        self.fan_out.send(most, NOW)

    def do_settle(self, *_: int) -> None:
        self.fan_out.settle()

    def do_settle_few(self, most: int, _: int) -> None:
        self.fan_out.settle_few(most)

    def do_notify(self, number: int, _: int) -> None:
        self.readers[number].outbox.notify(b"[notice]")
        self.readers[number].expected += b"[notice]"

    def do_flush(self, number: int, count: int) -> None:
        self.readers[number].flush(count)

    def do_break(self, number: int, _: int) -> None:
        self.readers[number].is_broken = True

    def do_give_up(self, number: int, _: int) -> None:
        self.readers[number].gives_up = True

    def do_seal(self, number: int, _: int) -> None:
        self.readers[number].gives_up = True
        self.readers[number].outbox.seal()

    def check(self) -> None:
        for books in (self.books, *(reader.outbox.account for reader in self.readers)):
            assert books.statistics().balanced
        for name in ("offered", "delivered", "overflowed", "queued"):
            assert getattr(self.books, name) == sum(getattr(reader.outbox.account, name) for reader in self.readers)


STEPS = st.one_of(
    st.tuples(st.just(Hall.do_publish), st.integers(0, 3), st.integers(1, 4)),
    st.tuples(st.just(Hall.do_close), st.just(0), st.just(0)),
    st.tuples(st.just(Hall.do_send), st.integers(1, 4), st.sampled_from([0, 1, 4, 9, 100])),
    st.tuples(st.just(Hall.do_settle), st.just(0), st.just(0)),
    st.tuples(st.just(Hall.do_settle_few), st.integers(0, 4), st.just(0)),
    st.tuples(st.just(Hall.do_notify), st.integers(0, 3), st.just(0)),
    st.tuples(st.just(Hall.do_flush), st.integers(0, 3), st.integers(0, 40)),
    st.tuples(st.just(Hall.do_break), st.integers(0, 3), st.just(0)),
    st.tuples(st.just(Hall.do_give_up), st.integers(0, 3), st.just(0)),
    st.tuples(st.just(Hall.do_seal), st.integers(0, 3), st.just(0)),
)


@settings(max_examples=1000)  # who leaves at the wrong moment is rare
@given(st.lists(STEPS, max_size=30))
def test_each_connection_gets_one_order(steps: list[tuple[Callable[[Hall, int, int], None], int, int]]) -> None:
    """What is written past a queue, what is queued and what is said in between come as they were published."""
    hall = Hall()
    for do, which, count in steps:
        do(hall, which, count)
        hall.check()
    hall.fan_out.settle()
    hall.check()
    for number, reader in enumerate(hall.readers):
        assert reader.has_ended or reader.outbox.account.offered == hall.added[number]
        while len(reader.outbox):
            reader.flush(10)
        assert reader.outbox.bytes_sent == len(reader.taken)
        if not reader.dropped and not reader.outbox.is_sealed:
            assert reader.taken == reader.expected
        seqs = [int(seq) for seq in re.findall(rb"<(\d+)>", reader.taken)]
        assert seqs == sorted(set(seqs)), "nothing is repeated or overtaken, whoever leaves meanwhile"
    hall.check()


def test_a_run_past_an_empty_queue_never_stands_in_it() -> None:
    hall = Hall()
    hall.publish(0)
    hall.publish(0)
    hall.fan_out.close_run()
    for reader in hall.readers:
        reader.room = 100
    assert hall.fan_out.send(3, NOW), "one is left"
    assert [reader.taken for reader in hall.readers] == [b"<1><2>"] * 3 + [b""]
    assert not hall.fan_out.send(3, NOW)
    assert hall.readers[3].taken == b"<1><2>"
    assert (hall.books.delivered, hall.books.queued) == (8, 0)
    assert {reader.outbox.sent_at for reader in hall.readers} == {NOW}


def test_what_the_socket_does_not_take_of_a_run_is_queued_from_the_frame_that_was_begun() -> None:
    hall = Hall()
    for _ in range(3):
        hall.publish(2)
    hall.fan_out.close_run()
    reader = hall.readers[2]
    reader.room = 4
    hall.fan_out.send(1, NOW)
    account = reader.outbox.account
    assert (account.delivered, account.queued, reader.outbox.size) == (1, 2, 5)
    assert reader.outbox.peek(100) == b"2><3>"


def test_a_run_that_is_being_sent_is_queued_before_anything_else_is() -> None:
    """A reply to one who has not got the run yet comes behind it; the others get theirs in the same step."""
    hall = Hall()
    hall.publish(0)
    hall.fan_out.close_run()
    hall.readers[0].room = 100
    hall.fan_out.send(1, NOW)
    hall.readers[3].outbox.notify(b"[reply]")
    assert hall.readers[3].outbox.peek(100) == b"<1>[reply]"
    assert [len(reader.outbox) for reader in hall.readers] == [0, 1, 1, 2]


def test_a_message_for_a_few_does_not_wait_for_a_crowd() -> None:
    hall = Hall()
    hall.fan_out.add(Record(TOPIC, 1, 0, 0.0, b"<c>", 0, 0, hall.books), hall.crowds[1])
    hall.fan_out.close_run()
    hall.fan_out.send(1, NOW)
    hall.publish(2)
    hall.fan_out.settle_few(1)
    assert hall.readers[2].outbox.peek(100) == b"<1>"
    assert len(hall.readers[1].outbox) == 0, "the crowd's run goes on by itself"


def test_a_message_for_some_of_a_crowd_waits_for_its_run() -> None:
    hall = Hall()
    hall.publish(0)
    hall.fan_out.close_run()
    hall.fan_out.send(1, NOW)
    hall.publish(2)
    hall.fan_out.settle_few(1)
    assert len(hall.readers[2].outbox) == 0
    hall.fan_out.settle()
    assert hall.readers[2].outbox.peek(100) == b"<1><2>"


@given(st.integers(0, 8), st.booleans(), st.booleans())
def test_a_notice_that_is_sent_at_once_keeps_its_place(room: int, is_queued: bool, is_on_its_way: bool) -> None:
    hall = Hall()
    reader = hall.readers[2]
    expected = b""
    if is_queued:
        reader.outbox.notify(b"[first]")
        expected += b"[first]"
    if is_on_its_way:
        hall.publish(2)
        expected += b"<1>"
    reader.room = room
    reader.outbox.notify_now(b"[ping]", NOW)
    hall.publish(2)
    hall.fan_out.settle()
    expected += b"[ping]<2>" if is_on_its_way else b"[ping]<1>"
    while len(reader.outbox):
        reader.flush(4)
    assert reader.taken == expected
    assert reader.outbox.bytes_sent == len(expected)
    assert (reader.outbox.size, reader.outbox.notices) == (0, 0)
    hall.check()


@pytest.mark.parametrize("count", [16, 17])
@pytest.mark.parametrize("way", ["open", "closed", "newest"])
def test_who_writes_knows_what_is_for_a_crowd(count: int, way: str) -> None:
    """What is settled for many may be written later than what is for a few."""
    fan_out, books, seen = FanOut(settle_soon=lambda: None), Account(), list[bool]()

    def note() -> None:
        seen.append(fan_out.is_for_crowd)

    crowd = {
        Outbox(number, 8, 1000, 8, wake=note, overflow=lambda _: True, fan_out=fan_out): None for number in range(count)
    }
    record = Record(TOPIC, 1, 0, 0.0, b"<1>", 0, 0, books)
    if way == "newest":
        fan_out.replace(record, crowd)
    else:
        fan_out.add(record, crowd)
    if way == "closed":
        fan_out.close_run()
    fan_out.settle()
    assert seen == [count > 16] * count
    assert not fan_out.is_for_crowd

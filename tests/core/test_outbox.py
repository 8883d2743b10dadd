"""The outbox: frames in order through a socket that takes any number of bytes, and books that balance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet_broker.core.accounting import Account, DropReason
from tercet_broker.core.log import Record
from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery, Item, Newest, ReplayedFrame, Run
from tercet_broker.core.relief import Relief
from tercet_broker.core.topic import Topic
from tercet_protocol import encode_text_frame


@define(eq=False)
class Box:
    """An outbox with room for 4 deliveries or 100 bytes of them, and what it told its owner."""

    books: Account = field(factory=Account)
    wakes: int = 0
    outbox: Outbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(1, 4, 100, 2, wake=self.wake, overflow=self.overflow)

    def wake(self) -> None:
        self.wakes += 1

    def overflow(self, delivery: Delivery) -> bool:
        if not self.outbox.is_sealed:
            self.outbox.refuse(delivery)
        return False

    def offer(self, frame: bytes) -> bool:
        accepted = self.outbox.offer(ReplayedFrame(frame, self.books))
        self.check()
        return accepted

    def send(self, count: int) -> bytes:
        data = self.outbox.peek(1000)[:count]
        self.outbox.sent(len(data))
        self.check()
        return data

    def check(self) -> None:
        for account in (self.outbox.account, self.books):
            assert account.statistics().balanced
        assert self.outbox.size == len(self.outbox.peek(1000))


@given(st.data(), st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=12)), max_size=12))
def test_outbox_keeps_the_order_whatever_the_socket_takes(
    data: st.DataObject, frames: list[tuple[bool, bytes]]
) -> None:
    box = Box()
    expected = received = b""
    for is_delivery, frame in frames:
        if is_delivery:
            expected += frame if box.offer(frame) else b""
        else:
            box.outbox.notify(frame)
            expected += frame
        received += box.send(data.draw(st.integers(0, 30)))
    while len(box.outbox):
        received += box.send(data.draw(st.integers(1, 30)))
    assert received == expected
    assert box.outbox.notices == box.outbox.size == 0
    assert box.books.queued == 0
    assert box.books.delivered == box.books.offered - box.books.overflowed


@given(st.integers(0, 11))
def test_outbox_counts_a_delivery_with_its_last_byte(count: int) -> None:
    box = Box()
    box.offer(b"x" * 10)
    box.offer(b"y" * 10)
    box.send(count)
    assert box.books.delivered == (1 if count >= 10 else 0)
    assert box.books.queued == 2 - box.books.delivered


@given(st.integers(1, 40))
def test_outbox_peek_is_whole_frames_up_to_about_the_limit(limit: int) -> None:
    box = Box()
    for letter in (b"a", b"b", b"c"):
        box.offer(letter * 10)
    peeked = box.outbox.peek(limit)
    assert peeked == b"aaaaaaaaaabbbbbbbbbbcccccccccc"[: min(30, (limit + 9) // 10 * 10)]


def test_outbox_peek_is_empty_when_nothing_is_queued() -> None:
    assert Box().outbox.peek(10) == b""


def test_outbox_refuses_what_does_not_fit() -> None:
    box = Box()
    assert [box.offer(b"xx") for _ in range(5)] == [True, True, True, True, False]
    assert box.books.statistics().dropped == {DropReason.OVERFLOW: 1, DropReason.CLOSED: 0}
    box.send(2)
    assert box.offer(b"xx")


def test_outbox_bounds_the_bytes_of_deliveries() -> None:
    box = Box()
    assert box.offer(b"x" * 60)
    assert not box.offer(b"x" * 41)
    assert box.offer(b"x" * 40)


def test_outbox_gives_replies_room_of_their_own() -> None:
    """Large replies that a client asked for do not make it a slow consumer."""
    box = Box()
    box.outbox.notify(b"x" * 150)
    assert box.outbox.is_congested, "its reader stops"
    assert box.offer(b"y" * 100)
    assert not box.offer(b"y")


def test_outbox_is_congested_by_many_notices() -> None:
    box = Box()
    for _ in range(2):
        box.outbox.notify(b"x")
    found = [box.outbox.is_congested]
    box.outbox.notify(b"x")
    found.append(box.outbox.is_congested)
    box.send(1)
    found.append(box.outbox.is_congested)
    assert found == [False, True, False]


def test_outbox_wakes_when_it_was_empty() -> None:
    box = Box()
    box.offer(b"x")
    box.outbox.notify(b"y")
    assert box.wakes == 1
    box.send(1)
    box.offer(b"z")
    assert box.wakes == 1
    box.send(2)
    box.outbox.notify(b"z")
    assert box.wakes == 2


def test_outbox_wakes_after_it_was_cleared() -> None:
    """Whoever was woken may have found nothing to send, and gone back to sleep."""
    box = Box()
    box.offer(b"x")
    box.outbox.clear()
    assert box.outbox.peek(10) == b""
    box.outbox.notify(b"y")
    assert box.wakes == 2


@given(st.integers(0, 9))
def test_outbox_clear_keeps_the_rest_of_a_frame_that_was_begun(taken: int) -> None:
    """A Close that follows starts at a frame boundary."""
    box = Box()
    box.offer(b"0123456789")
    box.offer(b"gone")
    box.outbox.notify(b"gone")
    received = box.send(taken)
    box.outbox.clear()
    box.check()
    assert box.outbox.notices == 0
    box.outbox.notify(b"close")
    box.outbox.seal()
    received += box.send(100)
    assert received == (b"0123456789close" if taken else b"close")
    assert box.books.statistics().dropped == {DropReason.OVERFLOW: 0, DropReason.CLOSED: 1 if taken else 2}
    assert box.books.delivered == (1 if taken else 0)


def test_outbox_clear_keeps_a_notice_that_was_begun() -> None:
    box = Box()
    box.outbox.notify(b"0123456789")
    box.offer(b"gone")
    box.send(3)
    box.outbox.clear()
    assert box.outbox.notices == 1
    assert box.send(100) == b"3456789"
    assert box.outbox.notices == 0


def test_sealed_outbox_takes_nothing_more() -> None:
    box = Box()
    box.offer(b"last")
    box.outbox.seal()
    box.outbox.notify(b"no")
    assert not box.offer(b"no")
    assert box.books.statistics().dropped == {DropReason.OVERFLOW: 0, DropReason.CLOSED: 1}
    assert box.send(100) == b"last"


@given(st.integers(0, 9))
def test_closed_outbox_drops_all_and_takes_nothing(taken: int) -> None:
    box = Box()
    box.offer(b"0123456789")
    box.outbox.notify(b"x")
    box.send(taken)
    box.outbox.close()
    box.outbox.close()
    box.outbox.notify(b"x")
    assert not box.offer(b"x")
    box.check()
    assert len(box.outbox) == box.outbox.notices == box.outbox.size == 0
    assert box.books.statistics().dropped == {DropReason.OVERFLOW: 0, DropReason.CLOSED: 2}


# What is dropped, and what takes another's place

TOPICS = {name: Topic(name, tuple(name.split("/")), b"", lambda _: None) for name in ("a/x", "a/y", "b/x")}


@define(eq=False)
class Slow:
    """An outbox with room for 8 deliveries, in which two namespaces, a and b, are queued; frames are what they say."""

    books: dict[str, Account] = field(factory=lambda: {"a": Account(), "b": Account()})
    seqs: dict[str, int] = field(factory=lambda: {"a": 0, "b": 0})
    overflowed: list[Delivery] = field(factory=list)
    outbox: Outbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outbox = Outbox(1, 8, 1000, 100, wake=lambda: None, overflow=self.overflow)

    def overflow(self, delivery: Delivery) -> bool:
        self.overflowed.append(delivery)
        return True

    def record(self, topic: str, size: int = 0) -> Record:
        namespace = topic[0]
        self.seqs[namespace] += 1
        seq = self.seqs[namespace]
        frame = encode_text_frame(f"{namespace}{seq}".encode().ljust(size, b"."))
        return Record(TOPICS[topic], seq, 0, 0.0, frame, 0, 0, self.books[namespace])

    def offer(self, *topics: str) -> None:
        for topic in topics:
            assert self.outbox.offer(self.record(topic))

    def conflate(self, *topics: str) -> None:
        for topic in topics:
            assert self.outbox.offer_newest(self.record(topic))

    def notify(self) -> None:
        self.outbox.notify(encode_text_frame(b"reply"))

    def relieve(self, arriving: Delivery | None, namespace: str = "a") -> None:
        assert arriving is None or isinstance(arriving, Record | Newest)
        self.outbox.relieve(namespace, "e", self.books[namespace], arriving)
        self.check()

    def check(self) -> None:
        assert all(books.statistics().balanced for books in (self.outbox.account, *self.books.values()))
        assert self.outbox.size == len(self.outbox.peek(10_000))
        assert self.outbox.account.queued == sum(books.queued for books in self.books.values())

    def queued(self) -> list[str | tuple[str, int, int, int]]:
        """Return what is queued: frames, and gaps as (namespace, after, through, dropped)."""
        data, found = self.outbox.peek(10_000), list[str | tuple[str, int, int, int]]()
        while data:
            wide = data[1] == 126
            size = int.from_bytes(data[2:4], "big") if wide else data[1]
            start = 4 if wide else 2
            payload, data = data[start : start + size].decode(), data[start + size :]
            if payload.startswith("{"):
                gap = json.loads(payload)
                assert (gap["op"], gap["epoch"], gap["reason"]) == ("gap", "e", "overflow")
                found.append((gap["namespace"], gap["after"], gap["through"], gap["dropped"]))
            else:
                found.append(payload.rstrip("."))
        self.check()
        return found


@define(eq=False)
class Dropping(Slow):
    """One in which both namespaces drop their oldest; it may forget each time from where on there is any."""

    forgets: bool = False

    def overflow(self, delivery: Delivery) -> bool:
        if isinstance(delivery, Record | Newest):
            self.relieve(delivery, "a" if delivery.account is self.books["a"] else "b")
        else:
            self.outbox.refuse(delivery)
        return True

    def relieve(self, arriving: Delivery | None, namespace: str = "a") -> None:
        assert arriving is None or isinstance(arriving, Record | Newest)
        if self.forgets and self.outbox.relief is not None:
            self.outbox.relief = Relief(self.outbox.relief.last_gaps)
        self.outbox.relieve(namespace, "e", self.books[namespace], arriving)

    def do(self, operation: str, what: Any) -> None:
        match operation:
            case "offer":
                self.offer(what)
            case "run":
                assert self.outbox.offer_run(Run.of([self.record(what) for _ in range(3)]))
            case "conflate":
                self.conflate(what)
            case "replay":
                self.outbox.offer(ReplayedFrame(encode_text_frame(b"replay"), self.books[what]))
            case "notify":
                self.notify()
            case "relieve":
                self.relieve(None, what)
            case _:
                self.outbox.sent(min(what, self.outbox.size))
        self.check()


def test_relieve_drops_the_oldest_of_its_namespace_alone() -> None:
    """G-003: a gap stands where the first of them stood, and what arrives is queued."""
    slow = Slow()
    slow.offer("b/x", "a/x", "a/y", "b/x", "a/x", "b/x", "a/y", "a/x")
    slow.relieve(slow.record("a/x"))
    assert slow.queued() == ["b1", ("a", 0, 1, 1), "a2", "b2", "a3", "b3", "a4", "a5", "a6"]
    assert slow.books["a"].overflowed == 1
    assert slow.books["b"].overflowed == 0


def test_relieve_lets_a_gap_grow() -> None:
    slow = Slow()
    slow.offer(*["a/x"] * 8)
    for _ in range(3):
        slow.relieve(slow.record("a/x"))
    assert slow.queued() == [("a", 0, 3, 3), *(f"a{seq}" for seq in range(4, 12))]
    assert slow.outbox.notices == 1


def test_relieve_joins_no_gaps_across_a_reply() -> None:
    """What stands behind it may have been for a subscription that the client learns of by it."""
    slow = Slow()
    slow.offer("a/x")
    slow.notify()
    slow.offer(*["a/x"] * 7)
    slow.relieve(slow.record("a/x"))
    slow.relieve(slow.record("a/x"))
    assert slow.queued()[:4] == [("a", 0, 1, 1), "reply", ("a", 1, 2, 1), "a3"]
    slow.relieve(None)
    assert slow.queued()[:4] == [("a", 0, 1, 1), "reply", ("a", 1, 6, 5), "a7"]


def test_relieve_joins_gaps_that_meet() -> None:
    """A gap at the end, where something arrived for which there was no room, and one that grows up to it."""
    slow = Slow()
    slow.offer(*["b/x"] * 8)
    slow.relieve(slow.record("a/x"))
    assert slow.queued()[-1] == ("a", 0, 1, 1)
    slow.outbox.sent(len(slow.record("b/x").frame) * 8)
    slow.notify()
    slow.offer("a/x")
    assert slow.queued() == [("a", 0, 1, 1), "reply", "a2"]


def test_relieve_with_nothing_to_drop_drops_what_arrives() -> None:
    """And what arrives after that in the same gap, as long as it is the last in the queue."""
    slow = Slow()
    slow.offer(*["b/x"] * 8)
    for _ in range(3):
        slow.relieve(slow.record("a/x"))
    assert slow.queued() == [*(f"b{seq}" for seq in range(1, 9)), ("a", 0, 3, 3)]
    slow.notify()
    slow.relieve(slow.record("a/x"))
    assert slow.queued()[8:] == [("a", 0, 3, 3), "reply", ("a", 3, 4, 1)]
    assert slow.books["a"].overflowed == 4


def test_relieve_makes_room_in_bytes() -> None:
    slow = Slow()
    for _ in range(4):
        assert slow.outbox.offer(slow.record("a/x", 240))
    slow.relieve(slow.record("a/x", 500))
    assert slow.queued() == [("a", 0, 3, 3), "a4", "a5"]
    assert slow.outbox.size - len(slow.outbox.peek(1)) <= 1000


def test_relieve_of_nothing_that_arrives_halves_the_queue() -> None:
    slow = Slow()
    slow.offer(*["a/x"] * 7)
    slow.relieve(None)
    assert slow.queued() == [("a", 0, 3, 3), "a4", "a5", "a6", "a7"]


def test_relieve_leaves_a_frame_that_was_begun() -> None:
    slow = Slow()
    slow.offer(*["a/x"] * 8)
    whole = slow.outbox.peek(1)
    slow.outbox.sent(2)
    slow.relieve(slow.record("a/x"))
    assert whole[2:] + b"\x81" == slow.outbox.peek(10_000)[: len(whole) - 1]
    slow.outbox.sent(len(whole) - 2)
    assert slow.queued()[:2] == [("a", 1, 2, 1), "a3"]


def test_relieve_leaves_replays() -> None:
    slow = Slow()
    for _ in range(8):
        assert slow.outbox.offer(ReplayedFrame(encode_text_frame(b"replay"), slow.books["a"]))
    slow.relieve(slow.record("a/x"))
    assert slow.queued() == [*["replay"] * 8, ("a", 0, 1, 1)]


def test_relieve_takes_a_run_apart() -> None:
    slow = Slow()
    records = [slow.record("a/x") for _ in range(8)]
    assert slow.outbox.offer_run(Run.of(records))
    slow.relieve(slow.record("a/x"))
    assert slow.queued() == [("a", 0, 1, 1), *(f"a{seq}" for seq in range(2, 10))]


class Watched(list[Item]):
    """Counts how often an item is looked at by its place."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        type(self).looks += 1
        return super().__getitem__(place)


@pytest.mark.parametrize("droppable", [0, 3])
def test_relieve_does_not_walk_twice_past_what_it_may_not_drop(monkeypatch: pytest.MonkeyPatch, droppable: int) -> None:
    """Whatever stands between: no gap at the end lasts across a reply."""
    monkeypatch.setattr(Watched, "looks", 0)
    count, slow = 1000, Dropping()
    slow.outbox.max_messages, slow.outbox.max_bytes = count, 1 << 30
    slow.offer(*["b/x"] * (count - droppable), *["a/x"] * droppable)
    slow.outbox.items = Watched(slow.outbox.items)
    for _ in range(count):
        slow.notify()
        slow.offer("a/x")
    assert Watched.looks < 10 * count
    assert slow.books["b"].queued == count - droppable


TOPIC = st.sampled_from(list(TOPICS))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), TOPIC),
        st.tuples(st.just("run"), TOPIC),
        st.tuples(st.just("conflate"), TOPIC),
        st.tuples(st.sampled_from(["replay", "notify", "relieve"]), st.sampled_from(["a", "b"])),
        st.tuples(st.just("send"), st.integers(1, 60)),
    ),
    min_size=10,
    max_size=60,
)


FILLED = st.lists(st.tuples(TOPIC, st.integers(1, 15)), max_size=4)


@settings(max_examples=300)
@example(
    6,
    [("a/x", 1), ("b/x", 1)],
    [
        *[("offer", "a/x"), ("notify", "a"), *[("offer", "a/x")] * 3, ("send", 1)],
        *[*[("offer", "a/x")] * 2, ("relieve", "b"), *[("offer", "a/x")] * 2],
    ],
)
@given(st.sampled_from([6, 40]), FILLED, OPERATIONS)
def test_relieve_drops_the_same_as_if_it_walked_through_all_each_time(
    room: int, filled: list[tuple[str, int]], operations: list[tuple[str, Any]]
) -> None:
    """What is remembered of a queue changes nothing, whatever is sent and dropped in front of it."""
    remembers, forgets = Dropping(), Dropping(forgets=True)
    for slow in (remembers, forgets):
        slow.outbox.max_messages = room
        for topic, count in filled:
            slow.offer(*[topic] * count)
    for operation, what in operations:
        for slow in (remembers, forgets):
            slow.do(operation, what)
        assert remembers.outbox.peek(100_000) == forgets.outbox.peek(100_000)
        assert remembers.outbox.account.statistics() == forgets.outbox.account.statistics()


def test_newest_takes_the_place_of_the_one_before() -> None:
    """M-010: in its place in the queue; the other is conflated."""
    slow = Slow()
    slow.conflate("a/x", "a/y", "b/x", "a/x", "a/x")
    assert slow.queued() == ["a4", "a2", "b1"]
    assert (slow.books["a"].queued, slow.books["a"].conflated, slow.books["b"].conflated) == (2, 2, 0)
    slow.outbox.sent(slow.outbox.size)
    slow.conflate("a/x")
    assert slow.queued() == ["a5"], "what was sent has no place any more"


def test_newest_does_not_move_across_a_notice() -> None:
    slow = Slow()
    slow.conflate("a/x", "a/y")
    slow.notify()
    slow.conflate("a/x")
    slow.conflate("a/x")
    assert slow.queued() == ["a1", "a2", "reply", "a4"]


def test_newest_leaves_a_frame_that_was_begun() -> None:
    slow = Slow()
    slow.conflate("a/x")
    frame = slow.outbox.peek(1)
    slow.outbox.sent(1)
    slow.conflate("a/x", "a/x")
    slow.outbox.sent(len(frame) - 1)
    assert slow.queued() == ["a3"]


def test_newest_overflows_when_there_is_no_room_for_a_place() -> None:
    slow = Slow()
    slow.offer(*["b/x"] * 8)
    slow.conflate("a/x")
    (arriving,) = slow.overflowed
    slow.relieve(arriving)
    assert slow.queued()[-1] == ("a", 0, 1, 1)


def test_newest_that_is_larger_overflows_in_its_place() -> None:
    """It stands there already: relieving drops what is older, and may drop the place as well."""
    slow = Slow()
    slow.conflate("a/x", "a/y")
    assert slow.outbox.offer_newest(slow.record("a/x", 900))
    assert slow.outbox.offer_newest(slow.record("a/y", 900))
    (arriving,) = slow.overflowed
    assert isinstance(arriving, Newest)
    assert (arriving.first, arriving.seq) == (2, 4)
    slow.relieve(arriving)
    assert slow.queued() == [("a", 0, 3, 1), "a4"], "the place began with seq 1: everything above it may be missing"
    slow.conflate("a/y", "a/x")
    assert slow.queued() == [("a", 0, 3, 1), "a5", "a6"], "the place that was dropped is free"

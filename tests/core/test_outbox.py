"""The outbox: frames in order through a socket that takes any number of bytes, and books that balance."""

from __future__ import annotations

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core.accounting import Account, DropReason
from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery, ReplayedFrame


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

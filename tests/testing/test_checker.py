"""Correct histories pass; each way to spoil one is found, under the rule that it breaks and under no other."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import pytest
from attrs import define, evolve, field
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.testing.ideal import Ideal

from tercet_protocol import Position
from tercet_testing.checker import IncorrectHistoryError, Rule, assert_correct, check
from tercet_testing.events import (
    Acked,
    Delivered,
    Event,
    Failed,
    GapTold,
    Granted,
    Left,
    LiveTold,
    Publishing,
    Revoked,
    Subscribed,
    Subscribing,
    Unsubscribed,
)

KEY = "a-key-of-16-characters"


@define
class Story:
    """Writes a history by hand; one second passes with each event."""

    events: list[Event] = field(factory=list)

    def at(self) -> float:
        return float(len(self.events))

    def publish(  # what may be said of one
        self, number: int, topic: str, data: str, *, retain: bool = False, key: str | None = None, echo: bool = True
    ) -> None:
        self.events.append(Publishing(self.at(), "feed", number, topic, data.encode(), retain, key, echo))

    def ack(self, number: int, epoch: str, seq: int, *, duplicate: bool = False) -> None:
        self.events.append(Acked(self.at(), "feed", number, Position(epoch, seq), duplicate))

    def fail(self, number: int, *, refused: bool) -> None:
        self.events.append(Failed(self.at(), "feed", number, "no", refused))

    def subscribe(
        self,
        number: int,
        filter_: str,
        *,
        since: Position | None = None,
        last: int | None = None,
        retained: bool | None = None,
    ) -> None:
        self.events.append(Subscribing(self.at(), "screen", number, filter_, since, last, retained))
        self.events.append(Subscribed(self.at(), "screen", number))

    def deliver(  # what may be said of one
        self, number: int, topic: str, epoch: str | None, seq: int, data: str, *, retained: bool = False
    ) -> None:
        self.events.append(Delivered(self.at(), "screen", number, topic, seq, epoch, data.encode(), retained))

    def live(self, number: int, epoch: str, seq: int) -> None:
        self.events.append(LiveTold(self.at(), "screen", number, Position(epoch, seq)))

    def gap(self, number: int, epoch: str, after: int, through: int, reason: str = "epoch") -> None:
        self.events.append(GapTold(self.at(), "screen", number, "n", epoch, after, through, reason))

    def blur(self, number: int) -> None:
        self.events.append(GapTold(self.at(), "screen", number, None, None, None, None, "reconnected"))

    def end(self, number: int) -> None:
        self.events.append(Unsubscribed(self.at(), "screen", number))

    def rules(self, *, quiet: bool = True) -> list[str]:
        return [violation.rule.value for violation in check(self.events, quiet=quiet)]


def tell() -> list[Event]:
    """Return a history with everything in it: values, a restart, a repeated key, a refusal, an end."""
    story = Story()
    story.subscribe(1, "n/#")
    story.live(1, "e1", 0)
    for number in range(1, 7):
        story.publish(number, "n/r" if number in (3, 5) else "n/x", f"{number}", retain=number in (3, 5))
        story.ack(number, "e1", number)
        story.deliver(1, "n/r" if number in (3, 5) else "n/x", "e1", number, f"{number}")
    story.subscribe(2, "n/r")
    story.deliver(2, "n/r", "e1", 5, "5", retained=True)
    story.live(2, "e1", 6)
    story.publish(20, "n/x", "refused")
    story.fail(20, refused=True)
    for number in (1, 2):
        story.gap(number, "e2", 0, 0)
        story.live(number, "e2", 0)
    story.publish(7, "n/x", "7", key=KEY)
    story.ack(7, "e2", 1)
    story.deliver(1, "n/x", "e2", 1, "7")
    story.publish(8, "n/x", "7", key=KEY)
    story.ack(8, "e2", 1, duplicate=True)
    story.publish(9, "n/r", "9")
    story.ack(9, "e2", 2)
    story.deliver(1, "n/r", "e2", 2, "9")
    story.deliver(2, "n/r", "e2", 2, "9")
    for number in (10, 11):
        story.publish(number, "o/x", f"{number}")
        story.ack(number, "e2", number - 9)
    story.end(1)
    return story.events


Kind = TypeVar("Kind", Publishing, Acked, Failed, Subscribing, Subscribed, Delivered, GapTold, LiveTold, Unsubscribed)
Spoil = Callable[[list[Event]], None]
SPOILS: list[tuple[Rule, Spoil]] = []


def spoils(rule: Rule) -> Callable[[Spoil], Spoil]:
    """Register a way to spoil the history that `tell` returns."""

    def register(spoil: Spoil) -> Spoil:
        SPOILS.append((rule, spoil))
        return spoil

    return register


def find(events: list[Event], kind: type[Kind], number: int, seq: int | None = None) -> tuple[int, Kind]:
    """Return where an event stands, the first of its kind, and the event."""
    for index, event in enumerate(events):
        if isinstance(event, kind) and event.number == number and seq in (None, getattr(event, "seq", None)):
            return index, event
    raise LookupError((kind, number, seq))


def deliver(events: list[Event], topic: str, epoch: str, seq: int, data: str) -> None:
    """Hand something more to subscription 1, before it ends."""
    events.insert(len(events) - 1, Delivered(99.0, "screen", 1, topic, seq, epoch, data.encode()))


@spoils(Rule.SKIP)
def lose_a_delivery(events: list[Event]) -> None:
    del events[find(events, Delivered, 1, 4)[0]]


@spoils(Rule.SKIP)
def lose_the_first_delivery(events: list[Event]) -> None:
    del events[find(events, Delivered, 1, 1)[0]]


@spoils(Rule.SKIP)
def lose_what_the_gap_does_not_cover(events: list[Event]) -> None:
    index, _ = find(events, Delivered, 1, 4)
    events[index] = GapTold(0.0, "screen", 1, "n", "e1", 4, 5, "expired")


@spoils(Rule.SKIP)
def tell_the_gap_too_late(events: list[Event]) -> None:
    del events[find(events, Delivered, 1, 4)[0]]
    index, _ = find(events, Delivered, 1, 5)
    events.insert(index + 1, GapTold(0.0, "screen", 1, "n", "e1", 3, 4, "expired"))


@spoils(Rule.SKIP)
def go_live_without_the_last(events: list[Event]) -> None:
    index, _ = find(events, Delivered, 1, 6)
    events[index] = LiveTold(0.0, "screen", 1, Position("e1", 6))


@spoils(Rule.FORBIDDEN)
def forbid_what_is_delivered(events: list[Event]) -> None:
    """Message 7 is published and delivered after its topic was forbidden."""
    index, _ = find(events, Publishing, 7)
    events.insert(index, Revoked(0.0, "screen", "n/+"))


@spoils(Rule.QUIET)
def lose_the_last_delivery(events: list[Event]) -> None:
    del events[find(events, Delivered, 2, 2)[0]]


@spoils(Rule.SEQ_RISES)
def deliver_twice(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 4)
    events.insert(index + 1, evolve(event))


@spoils(Rule.SEQ_RISES)
def swap_deliveries(events: list[Event]) -> None:
    (first, one), (second, other) = find(events, Delivered, 1, 4), find(events, Delivered, 1, 6)
    events[first] = LiveTold(0.0, "screen", 1, None)
    events[second : second + 1] = [other, one]


@spoils(Rule.SEQ_RISES)
def deliver_below_the_live_mark(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 6)
    events[index : index + 1] = [LiveTold(0.0, "screen", 1, Position("e1", 6)), event]


@spoils(Rule.CONTENT)
def alter_a_byte(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 4)
    events[index] = evolve(event, data=b"5")


@spoils(Rule.CONTENT)
def alter_white_space(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 4)
    events[index] = evolve(event, data=b"4 ")


@spoils(Rule.CONTENT)
def alter_the_topic(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 4)
    events[index] = evolve(event, topic="n/y")


@spoils(Rule.CONTENT)
def deliver_what_nobody_published(events: list[Event]) -> None:
    deliver(events, "n/x", "e2", 3, "phantom")


@spoils(Rule.CONTENT)
def deliver_before_it_is_published(events: list[Event]) -> None:
    index, event = find(events, Delivered, 1, 6)
    del events[index]
    events.insert(find(events, Publishing, 6)[0], event)


@spoils(Rule.REFUSED)
def deliver_what_was_refused(events: list[Event]) -> None:
    deliver(events, "n/x", "e2", 3, "refused")


@spoils(Rule.FILTER)
def deliver_what_was_not_asked_for(events: list[Event]) -> None:
    deliver(events, "o/x", "e2", 1, "10")


@spoils(Rule.ONCE)
def publish_twice(events: list[Event]) -> None:
    deliver(events, "n/r", "e2", 3, "9")


@spoils(Rule.ONCE)
def forget_a_key(events: list[Event]) -> None:
    index, event = find(events, Acked, 8)
    again = Delivered(0.0, "screen", 1, "n/x", 2, "e2", b"7")
    events[index] = evolve(event, position=Position("e2", 2), duplicate=False)
    index, event = find(events, Acked, 9)
    events[index] = evolve(event, position=Position("e2", 3))
    for index, delivery in enumerate(events):
        if isinstance(delivery, Delivered) and delivery.data == b"9":
            events[index] = evolve(delivery, seq=3)
    events.insert(find(events, Publishing, 9)[0], again)


@spoils(Rule.ONE_POSITION)
def ack_with_the_position_of_another(events: list[Event]) -> None:
    index, event = find(events, Acked, 9)
    events[index] = evolve(event, position=Position("e2", 1))


@spoils(Rule.ONE_POSITION)
def ack_twice(events: list[Event]) -> None:
    index, event = find(events, Acked, 9)
    events.insert(index + 1, evolve(event, position=Position("e2", 3)))


@spoils(Rule.ONE_POSITION)
def deliver_two_things_at_one_place(events: list[Event]) -> None:
    events[:0] = [Publishing(0.0, "feed", number, "n/z", b"%d" % number) for number in (40, 41)]
    deliver(events, "n/z", "e2", 3, "40")
    events += [Subscribing(99.0, "screen", 3, "n/#"), Subscribed(99.0, "screen", 3)]
    events.append(Delivered(99.0, "screen", 3, "n/z", 3, "e2", b"41"))


@spoils(Rule.PUBLISH_ORDER)
def swap_acks(events: list[Event]) -> None:
    (first, one), (second, other) = find(events, Acked, 10), find(events, Acked, 11)
    events[first] = evolve(one, position=other.position)
    events[second] = evolve(other, position=one.position)
    events.insert(0, Publishing(0.0, "feed", 60, "o/x", b"60"))  # it may stand before either


@spoils(Rule.EPOCH)
def change_the_epoch_without_loss(events: list[Event]) -> None:
    for index, event in enumerate(events):
        if isinstance(event, Acked) and event.position.epoch == "e2" and event.number < 10:
            events[index] = evolve(event, position=Position("e2", event.position.seq + 6))
        elif isinstance(event, Delivered) and event.epoch == "e2":
            events[index] = evolve(event, seq=event.seq + 6)
        elif isinstance(event, GapTold):
            events[index] = evolve(event, through=6)


@spoils(Rule.EPOCH)
def let_the_epoch_come_back(events: list[Event]) -> None:
    events += [Publishing(99.0, "feed", 50, "o/x", b"50"), Acked(99.0, "feed", 50, Position("e3", 1))]
    events += [Publishing(99.0, "feed", 51, "o/x", b"51"), Acked(99.0, "feed", 51, Position("e2", 3))]


@spoils(Rule.EPOCH)
def let_a_subscription_go_back(events: list[Event]) -> None:
    events.insert(len(events) - 1, LiveTold(99.0, "screen", 1, Position("e1", 6)))


@spoils(Rule.EPOCH_GAP)
def lose_the_gap_of_a_new_epoch(events: list[Event]) -> None:
    del events[find(events, GapTold, 1)[0]]


@spoils(Rule.EPOCH_GAP)
def go_to_a_new_epoch_with_a_message(events: list[Event]) -> None:
    index, _ = find(events, GapTold, 1)
    del events[index : index + 2]


@spoils(Rule.UNSUBSCRIBED)
def deliver_after_the_end(events: list[Event]) -> None:
    last = max(i for i, event in enumerate(events) if isinstance(event, Delivered) and event.number == 1)
    events.append(events.pop(last))


@spoils(Rule.UNSUBSCRIBED)
def tell_a_gap_after_the_end(events: list[Event]) -> None:
    events.append(GapTold(99.0, "screen", 1, "n", "e2", 2, 3, "overflow"))


@spoils(Rule.RETAINED)
def give_an_older_value(events: list[Event]) -> None:
    index, event = find(events, Delivered, 2, 5)
    events[index] = evolve(event, seq=3, data=b"3")


@spoils(Rule.RETAINED)
def give_no_value(events: list[Event]) -> None:
    del events[find(events, Delivered, 2, 5)[0]]


@spoils(Rule.RETAINED)
def give_a_value_that_was_not_retained(events: list[Event]) -> None:
    index, event = find(events, Publishing, 5)
    events[index] = evolve(event, retain=False)


@spoils(Rule.RETAINED)
def give_a_forgotten_value(events: list[Event]) -> None:
    index, event = find(events, Publishing, 6)
    events[index] = evolve(event, topic="n/r", data=b"null", retain=True)
    index, delivery = find(events, Delivered, 1, 6)
    events[index] = evolve(delivery, topic="n/r", data=b"null")


def test_a_correct_history_has_no_violation() -> None:
    assert check(tell(), quiet=True) == []
    assert_correct(tell(), quiet=True)


@pytest.mark.parametrize(("rule", "spoil"), SPOILS, ids=[spoil.__name__ for _, spoil in SPOILS])
def test_each_way_to_spoil_a_history_breaks_its_rule_alone(rule: Rule, spoil: Spoil) -> None:
    events = tell()
    spoil(events)
    violations = check(events, quiet=True)
    assert {violation.rule for violation in violations} == {rule}, [str(violation) for violation in violations]
    for violation in violations:
        assert violation.text.endswith(".")
        places = [next(place for place, event in enumerate(events) if event is one) for one in violation.events]
        assert places
        assert places == sorted(places)


def test_every_rule_has_a_way_to_break_it() -> None:
    assert {rule for rule, _ in SPOILS} == set(Rule)
    assert len(SPOILS) >= 15


def test_error_says_which_rules_and_events() -> None:
    events = tell()
    alter_a_byte(events)
    with pytest.raises(IncorrectHistoryError, match=r"\[content\] screen was handed 'n/x' at e1:4") as caught:
        assert_correct(events)
    assert [violation.rule for violation in caught.value.violations] == [Rule.CONTENT]
    assert "Publishing(" in str(caught.value)


def test_error_does_not_list_hundreds() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    for seq in range(1, 14):
        story.deliver(1, "n/x", "e1", seq, "phantom")
    with pytest.raises(IncorrectHistoryError, match="and 3 more"):
        assert_correct(story.events)


def test_an_event_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no publish 1 of 'feed' has begun"):
        check([Acked(0.0, "feed", 1, Position("e", 1))])
    with pytest.raises(ValueError, match="no subscription 1 of 'screen' was asked for"):
        check([Unsubscribed(0.0, "screen", 1)])
    with pytest.raises(ValueError, match="key_seconds is above 0"):
        check([], key_seconds=0.0)


# What is allowed


@given(seed=st.integers(0, 2**32), steps=st.sampled_from((20, 60, 200, 500)))
@settings(max_examples=150, deadline=None)
def test_no_history_of_an_ideal_broker_has_a_violation(seed: int, steps: int) -> None:
    assert check(Ideal(random.Random(seed)).run(steps), quiet=True) == []


@given(seed=st.integers(0, 2**32), at=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_spoilt_delivery_of_an_ideal_broker_is_found(seed: int, at: random.Random) -> None:
    """Wherever it stands: other bytes, a repetition, one that comes after the end."""
    events = Ideal(random.Random(seed)).run(200)
    places = [place for place, event in enumerate(events) if isinstance(event, Delivered) and event.epoch is not None]
    if not places:
        return
    place = at.choice(places)
    event = events[place]
    assert isinstance(event, Delivered)
    broken = [*events[:place], evolve(event, data=b'"never"'), *events[place + 1 :]]
    assert {violation.rule for violation in check(broken, quiet=True)} & {Rule.CONTENT, Rule.ONE_POSITION}
    broken = [*events[: place + 1], evolve(event), *events[place + 1 :]]
    assert [violation.rule for violation in check(broken, quiet=True)] == [Rule.SEQ_RISES]
    ended = any(isinstance(end, Unsubscribed) and end.number == event.number for end in events)
    if ended:
        assert [violation.rule for violation in check([*events, evolve(event)])] == [Rule.UNSUBSCRIBED]


@given(seed=st.integers(0, 2**32), at=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_lost_delivery_of_an_ideal_broker_is_found(seed: int, at: random.Random) -> None:
    """If the message was acked, and published when the subscription stood, in an epoch that lasts."""
    ideal = Ideal(random.Random(seed))
    events, newest = ideal.run(200), f"e{ideal.epochs}"
    accepted = {event.number: place for place, event in enumerate(events) if isinstance(event, Subscribed)}
    ended = {event.number for event in events if isinstance(event, Unsubscribed)}
    left = {event.client for event in events if isinstance(event, Left)}
    acked = {}
    begun = {}
    for place, event in enumerate(events):
        if isinstance(event, Publishing):
            begun[event.number] = (place, event)
        elif isinstance(event, Acked) and not event.duplicate and begun[event.number][1].key is None:
            since, publishing = begun[event.number]
            acked[publishing.topic[0], event.position] = since
    places = []
    for place, event in enumerate(events):
        if (
            isinstance(event, Delivered)
            and event.epoch == newest
            and not event.retained
            and event.number not in ended
            and event.client not in left
        ):
            published = acked.get((event.topic[0], Position(newest, event.seq)), -1)
            if published > accepted[event.number]:
                places.append(place)
    if places:
        place = at.choice(places)
        del events[place]
        rules = [violation.rule for violation in check(events, quiet=True)]
        assert rules in ([Rule.SKIP], [Rule.QUIET]), rules


def test_an_unacked_publish_may_stand_in_two_epochs_or_in_none() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    story.live(1, "e1", 0)
    story.publish(1, "n/x", "1")
    story.publish(2, "n/x", "2")
    story.deliver(1, "n/x", "e1", 1, "1")
    story.gap(1, "e2", 0, 0)
    story.deliver(1, "n/x", "e2", 1, "1")
    story.ack(1, "e2", 1)
    story.fail(2, refused=False)
    assert story.rules() == []


def test_an_acked_publish_of_a_lost_epoch_is_covered_by_the_gap() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    story.publish(1, "n/x", "1")
    story.ack(1, "e1", 1)
    assert story.rules() == ["quiet"]
    story.live(1, "e1", 0)
    assert story.rules() == ["quiet"]
    story.gap(1, "e2", 0, 0)
    assert story.rules() == []


def test_concurrent_publishes_have_no_order() -> None:
    story = Story()
    story.publish(1, "n/x", "1")
    story.publish(2, "n/x", "2")
    story.ack(2, "e1", 1)
    story.ack(1, "e1", 2)
    assert story.rules() == []


def test_a_key_may_be_forgotten_after_its_time() -> None:
    events: list[Event] = []
    for number, at in enumerate((0.0, 299.0, 350.0, 360.0), 1):
        events.append(Publishing(at, "feed", number, "n/x", b"1", key=KEY))
        events.append(Acked(at, "feed", number, Position("e1", 1 if number < 3 else 2), number in (2, 4)))
    assert check(events) == []
    assert [violation.rule for violation in check(events, key_seconds=400.0)] == [Rule.ONCE]


def test_a_subscription_is_owed_nothing_from_before_its_start() -> None:
    story = Story()
    for number in (1, 2, 3):
        story.publish(number, "n/x", f"{number}")
        story.ack(number, "e1", number)
    story.subscribe(1, "n/#")
    story.live(1, "e1", 3)
    story.subscribe(2, "n/#", last=2)
    story.deliver(2, "n/x", "e1", 2, "2")
    story.deliver(2, "n/x", "e1", 3, "3")
    story.live(2, "e1", 3)
    assert story.rules() == []
    story.subscribe(3, "n/#", since=Position("e1", 1))
    story.deliver(3, "n/x", "e1", 3, "3")
    assert story.rules() == ["skip"]


def test_last_has_no_holes_in_a_topic_but_may_have_some_between_topics() -> None:
    story = Story()
    for number, topic in enumerate(("n/x", "n/y", "n/y", "n/x", "n/y"), 1):
        story.publish(number, topic, f"{number}")
        story.ack(number, "e1", number)
    story.subscribe(1, "n/#", last=10)
    story.deliver(1, "n/x", "e1", 1, "1")
    story.deliver(1, "n/x", "e1", 4, "4")
    story.deliver(1, "n/y", "e1", 5, "5")
    story.live(1, "e1", 5)
    assert story.rules() == []
    del story.events[-3]
    assert story.rules() == ["skip"]


def test_a_position_ahead_of_the_head_begins_anew_there() -> None:
    story = Story()
    story.publish(1, "n/x", "1")
    story.ack(1, "e1", 1)
    story.subscribe(1, "n/#", since=Position("e1", 50))
    story.gap(1, "e1", 1, 1, "unknown_position")
    story.live(1, "e1", 1)
    story.publish(2, "n/x", "2")
    story.ack(2, "e1", 2)
    assert story.rules() == ["quiet"]
    story.deliver(1, "n/x", "e1", 2, "2")
    assert story.rules() == []


def test_a_muted_publish_is_not_owed_to_its_own_client() -> None:
    story = Story()
    story.events += [Subscribing(0.0, "feed", 1, "n/#"), Subscribed(0.0, "feed", 1)]
    story.publish(1, "n/x", "1", echo=False)
    story.ack(1, "e1", 1)
    assert story.rules() == []


def test_a_gap_without_numbers_covers_all_up_to_the_next_message() -> None:
    story = Story()
    story.subscribe(1, "#")
    for number in range(1, 7):
        story.publish(number, "n/x", f"{number}")
        story.ack(number, "e1", number)
    story.deliver(1, "n/x", None, 1, "1")
    story.blur(1)
    assert story.rules() == []
    story.deliver(1, "n/x", None, 4, "4")
    assert story.rules() == ["quiet"]
    story.deliver(1, "n/x", None, 6, "6")
    assert story.rules() == ["skip"]


def test_a_filter_over_namespaces_is_judged_only_where_the_epoch_is_known() -> None:
    """Publish 1 is resent after a restart; the subscriber may have it from either epoch."""
    story = Story()
    story.subscribe(1, "#")
    story.publish(1, "n/x", "1")
    story.publish(2, "n/x", "2")
    story.deliver(1, "n/x", None, 1, "1")
    story.ack(1, "e2", 1)
    story.ack(2, "e2", 2)
    story.publish(3, "n/x", "3")
    story.ack(3, "e2", 3)
    story.deliver(1, "n/x", None, 7, "1")
    assert story.rules() == []


def test_a_filter_over_namespaces_is_handed_only_what_was_published() -> None:
    story = Story()
    story.subscribe(1, "#")
    story.publish(1, "n/x", "1")
    story.fail(1, refused=True)
    story.deliver(1, "n/x", None, 1, "1")
    assert story.rules() == ["refused"]
    story.deliver(1, "n/x", None, 1, "2")
    assert story.rules() == ["refused", "content", "seq-rises"]


def test_nothing_is_owed_at_the_end_unless_all_is_quiet_and_somebody_reads() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    story.publish(1, "n/x", "1")
    story.ack(1, "e1", 1)
    assert story.rules(quiet=False) == []
    assert story.rules() == ["quiet"]
    story.events.append(Left(9.0, "screen"))
    assert story.rules() == []


def test_what_others_were_handed_is_owed_like_what_was_acked() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    story.subscribe(2, "n/#")
    story.publish(1, "n/x", "1")
    story.deliver(1, "n/x", "e1", 1, "1")
    assert story.rules() == ["quiet"]


def test_where_newer_values_replace_older_ones_only_the_newest_is_owed() -> None:
    story = Story()
    story.subscribe(1, "n/#")
    for number in (1, 2, 3):
        story.publish(number, "n/x" if number < 3 else "n/y", f"{number}")
        story.ack(number, "e1", number)
    story.deliver(1, "n/y", "e1", 3, "3")
    assert [violation.rule for violation in check(story.events, quiet=True, conflating=["n"])] == [Rule.QUIET]
    story.deliver(1, "n/x", "e1", 2, "2")
    assert check(story.events, quiet=True, conflating=["n"]) == []


def test_what_was_published_before_it_was_forbidden_may_come_after() -> None:
    events = tell()
    index, _ = find(events, Acked, 7)
    events.insert(index, Revoked(0.0, "screen", "n/x"))
    assert check(events, quiet=True) == []


def test_what_is_forbidden_to_others_or_elsewhere_or_no_longer_may_come() -> None:
    cases: tuple[list[Event], ...] = (
        [Revoked(0.0, "feed", "n/x")],
        [Revoked(0.0, "screen", "o/#")],
        [Revoked(0.0, "screen", "n/#"), Granted(0.0, "screen", "n/#")],
    )
    for between in cases:
        events = tell()
        index, _ = find(events, Publishing, 7)
        events[index:index] = between
        assert check(events, quiet=True) == []

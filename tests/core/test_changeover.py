"""A change of access while it is carried out: in force for everybody at once, told to one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet_broker.core import Access, Action, HistorySettings, Identity, NamespaceSettings, Overflow, Rule, Rules
from tercet_protocol import parse_filter

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

ALL = tuple(Action)
FEED = Rule(("user:feed",), ALL, ("#",))


def rules(*filters: str) -> Rules:
    """What all may do; `feed` may do everything."""
    return Rules((FEED, Rule(("*",), ALL, filters)))


EVERYTHING, LESS = rules("#"), rules("news/open/#", "other/#")


@define(eq=False)
class Stage:
    """A broker whose changes are carried out when it is asked for."""

    world: World
    begun: int = 0
    feed: Peer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.world.broker.access = Access(EVERYTHING, takes_tokens=True)
        self.world.broker.changeover.soon = self.note
        self.feed = self.join("feed")

    def note(self) -> None:
        self.begun += 1

    def join(self, user: str, *filters: str) -> Peer:
        peer = self.world.open()
        peer.send("connect", id=1, token=user)
        _, tell = peer.carrier.asked.popleft()
        tell(Identity(user, source=f"token:{user}"), self.world.moment)
        for number, filter_ in enumerate(filters, 2):
            peer.send("subscribe", id=number, filter=filter_)
        peer.take()
        return peer

    def publish(self, *topics: str) -> None:
        for topic in topics:
            self.feed.publish(topic, topic)

    def change(self, changed: Rules) -> None:
        self.world.broker.set_rules(changed)

    def take_back(self, *users: str) -> None:
        broker = self.world.broker
        broker.set_access(broker.access, lambda one: None if one.user in users else one, self.world.moment)

    def finish(self) -> int:
        """Carry everything out; return how many steps that took."""
        steps = sum(1 for _ in self.world.broker.changeover.steps()) + 1
        assert not self.world.broker.changeover.is_open
        self.world.check()
        return steps


@pytest.fixture
def stage(make_world: Callable[..., World]) -> Stage:
    return Stage(make_world(NamespaceSettings(history=HistorySettings(messages=100))))


def heard(peer: Peer) -> list[Any]:
    """Return what arrived: topics of messages, `-N` for the end of subscription N, and names of the rest."""
    return [
        event["topic"] if event["op"] == "message" else -event["sub"] if event["op"] == "unsubscribed" else event["op"]
        for event in peer.take()
    ]


def test_nothing_is_told_in_the_step_of_the_change(stage: Stage) -> None:
    peer = stage.join("ann", "news/#")
    stage.change(LESS)
    assert (heard(peer), stage.begun) == ([], 1)
    stage.finish()
    assert heard(peer) == [-2]


def test_what_is_forbidden_is_not_delivered_from_that_step_on(stage: Stage) -> None:
    """A-020: though nobody has been told yet."""
    peer, other = stage.join("ann", "news/#", "other/x"), stage.join("bob", "news/open/x")
    stage.publish("news/secret")
    stage.change(LESS)
    stage.publish("news/secret", "other/x", "news/open/x")
    assert heard(peer) == ["news/secret", "other/x"]
    assert heard(other) == ["news/open/x"]
    stage.finish()
    assert heard(peer) == [-2]
    assert heard(other) == []
    stage.publish("news/open/x", "other/x")
    assert heard(peer) == ["other/x"]


def test_end_is_told_before_anything_that_could_be_taken_for_the_subscriptions(stage: Stage) -> None:
    """A subscription whose client saw seq 3 and not its end would believe to have had seq 2, which was withheld."""
    peer = stage.join("ann", "news/#", "news/open/+", "#")
    stage.change(LESS)
    stage.publish("news/secret", "news/open/x")
    assert heard(peer) == []
    stage.finish()
    assert heard(peer) == [-2, -4, "news/open/x"]


def test_what_comes_behind_a_message_that_waits_waits_as_well(stage: Stage) -> None:
    """One order, also where it is for another subscription, in another namespace, or was matched before."""
    torn, other = stage.join("ann", "news/#", "news/open/+", "other/x"), stage.join("bob", "news/open/+", "other/x")
    stage.change(LESS)
    stage.publish("other/x", "news/open/x", "other/x", "news/open/y", "other/x")
    assert heard(torn) == ["other/x"]
    assert heard(other) == ["other/x", "news/open/x", "other/x", "news/open/y", "other/x"]
    stage.finish()
    assert heard(torn) == [-2, "news/open/x", "other/x", "news/open/y", "other/x"]
    stage.publish("other/x")
    assert (heard(torn), heard(other)) == (["other/x"], ["other/x"])


def test_what_waits_is_there_before_the_reply_to_a_request(stage: Stage) -> None:
    peer = stage.join("ann", "news/#", "news/open/+")
    stage.change(LESS)
    stage.publish("news/open/x")
    peer.send("ping", id=9)
    stage.publish("news/open/y")
    assert heard(peer) == [-2, "news/open/x", "pong", "news/open/y"]
    stage.finish()
    assert heard(peer) == []


def test_what_waits_comes_before_the_next_change(stage: Stage) -> None:
    """A-020: by that it might be forbidden."""
    peer = stage.join("ann", "news/#", "news/open/+")
    stage.change(LESS)
    stage.publish("news/open/x")
    stage.change(rules("other/#"))
    stage.publish("news/open/x")
    stage.finish()
    assert heard(peer) == [-2, "news/open/x", -3]


def test_who_leaves_gets_nothing_that_waits_and_keeps_nobody(stage: Stage) -> None:
    leaves, stays = (stage.join(name, "news/#", "news/open/+") for name in ("ann", "bob"))
    stage.change(LESS)
    stage.publish("news/open/x")
    leaves.hang_up()
    stage.publish("news/open/y")
    stage.finish()
    assert heard(stays) == [-2, "news/open/x", "news/open/y"]
    assert not stage.world.broker.changeover.withheld.waiting


def test_who_is_cut_off_while_others_are_told_is_passed_over(make_world: Callable[..., World]) -> None:
    """To tell one settles what is on its way to all, and for that another may have no room."""
    namespace = NamespaceSettings(overflow=Overflow.DISCONNECT)
    stage = Stage(make_world(namespace, settles_later=True, outbox_messages=2))
    fast, slow = (stage.join(name, "news/#", "news/open/+", "other/x") for name in ("ann", "bob"))
    stage.publish("other/x", "other/x")
    assert heard(fast) == ["other/x", "other/x"]
    stage.change(LESS)
    stage.publish("other/x", "news/open/x")
    stage.change(EVERYTHING)
    stage.finish()
    assert heard(fast) == ["other/x", -2, "news/open/x"]
    assert (slow.close_code, stage.world.broker.changeover.withheld.waiting) == (4000, ())


@pytest.mark.parametrize("when", ["in its turn", "by a publish", "by the next change"])
def test_who_is_cut_off_while_told_is_told_no_more(make_world: Callable[..., World], when: str) -> None:
    """The first of two ends settles what is on its way, and for that there is no room. Nobody else notices."""
    namespace = NamespaceSettings(overflow=Overflow.DISCONNECT)
    stage = Stage(make_world(namespace, settles_later=True, outbox_messages=2))
    slow = stage.join("bob", "news/#", "news/a", "news/open/+", "other/x")
    fast = stage.join("ann", "news/#", "other/x")
    stage.publish("other/x", "other/x")
    assert heard(fast) == ["other/x", "other/x"]
    stage.change(LESS)
    stage.publish("other/x")
    if when == "by a publish":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tercet_broker.core.withheld._MESSAGES", 1)
            stage.publish("news/open/x")
    elif when == "by the next change":
        stage.publish("news/open/x")
        stage.change(EVERYTHING)
    stage.finish()
    assert heard(fast) == ["other/x", -2]
    assert (slow.close_code, stage.world.broker.changeover.withheld.waiting) == (4000, ())


@pytest.mark.parametrize(("bound", "count"), [("_MESSAGES", 2), ("_BYTES", 150), ("_DELIVERIES", 4)])
def test_what_waits_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch, bound: str, count: int) -> None:
    """More than that is not kept: then all for whom it is comply at once."""
    monkeypatch.setattr(f"tercet_broker.core.withheld.{bound}", count)
    peers = [stage.join(f"u{number}", "news/#", "news/open/+") for number in range(3)]
    stage.change(LESS)
    stage.publish("news/open/x")
    assert [heard(peer) for peer in peers] == [[]] * 3
    stage.publish("news/open/y", "news/open/z")
    assert [heard(peer) for peer in peers] == [[-2, "news/open/x", "news/open/y", "news/open/z"]] * 3


def test_what_waits_is_not_lost_to_the_log(make_world: Callable[..., World]) -> None:
    """Who is served from the log from now on, for having been slow, begins behind what was offered until then."""
    namespace = NamespaceSettings(history=HistorySettings(messages=100))
    stage = Stage(make_world(namespace, outbox_messages=4, slow_seconds=1.5))
    peer = stage.join("ann", "news/#", "news/open/+")
    stage.publish(*["news/open/x"] * 3)
    stage.world.wait(1)
    peer.session.look(stage.world.now)
    stage.change(LESS)
    stage.publish("news/open/y")
    peer.session.look(stage.world.now + 2)
    assert peer.session.outbox.cursors
    stage.publish("news/open/z")
    assert heard(peer)[:6] == [*["news/open/x"] * 3, -2, "news/open/y", "news/open/z"]


def test_end_is_told_before_a_position(stage: Stage) -> None:
    """It would move the subscription's on, past what was withheld."""
    peer = stage.join("ann", "news/#", "news/open/x")
    stage.change(LESS)
    stage.publish(*["news/secret"] * 60)
    stage.world.wait(1)
    assert heard(peer) == [-2, "position"]


def test_end_is_told_before_the_positions_of_a_drain(stage: Stage) -> None:
    peer = stage.join("ann", "news/#", "other/x")
    stage.change(LESS)
    for _ in stage.world.broker.drain(lambda: 1.0):
        pass
    assert heard(peer) == [-2, "position", "drain"]


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("publish", {"topic": "news/secret", "data": 1}),
        ("subscribe", {"filter": "news/secret"}),
        ("history", {"filter": "news/#"}),
    ],
)
def test_request_is_served_by_the_rules_in_force(stage: Stage, op: str, fields: dict[str, Any]) -> None:
    """A-012."""
    peer = stage.join("ann")
    stage.change(LESS)
    assert peer.ask(op, **fields)["code"] == "forbidden"
    stage.change(EVERYTHING)
    assert peer.ask(op, **fields)["op"] != "error"


def test_newcomers_are_served_by_the_rules_in_force(stage: Stage) -> None:
    stage.change(LESS)
    assert stage.join("ann").ask("subscribe", filter="news/#")["code"] == "forbidden"


@pytest.mark.parametrize("overflow", [None, Overflow.DISCONNECT])
def test_replay_ends_at_its_next_page(make_world: Callable[..., World], overflow: Overflow | None) -> None:
    """A-020, R-018: also that of a connection that is served from the log."""
    namespace = NamespaceSettings(history=HistorySettings(messages=100), overflow=overflow)
    stage = Stage(make_world(namespace, outbox_bytes=2048, message_bytes=1024))
    for _ in range(50):
        stage.feed.publish("news/secret", "x" * 100)
        stage.feed.take()
    peer = stage.world.open()
    peer.send("connect", id=1)
    peer.send("subscribe", id=2, filter="news/#", last=50)
    assert peer.session.outbox.is_behind
    queued = len(peer.queued())
    stage.change(LESS)
    arrived = peer.take()
    assert len(arrived) == queued + 1
    assert arrived[-1]["op"] == "unsubscribed"


def test_cursor_has_nothing_that_is_forbidden(make_world: Callable[..., World]) -> None:
    """Published before the change, and not sent by then: it does not come any more."""
    stage = Stage(make_world(NamespaceSettings(history=HistorySettings(messages=100)), outbox_messages=4))
    peer = stage.join("ann", "news/#", "other/x")
    stage.publish(*["news/secret"] * 10)
    assert peer.session.outbox.cursors
    stage.change(LESS)
    stage.publish("news/secret", "news/open/x")
    events = heard(peer)
    assert events[:4] == ["news/secret"] * 4
    assert -2 in events
    assert set(events[4:]) <= {-2, "position"}


def test_who_is_not_wanted_any_more_gets_nothing_and_is_closed(stage: Stage) -> None:
    """A-021."""
    by_turn, by_request, stays = (stage.join(name, "other/x") for name in ("ann", "bob", "eve"))
    stage.take_back("ann", "bob")
    stage.publish("other/x")
    assert heard(by_turn) == heard(by_request) == []
    by_request.send("ping", id=9)
    assert (heard(by_request), by_request.close_code) == (["error"], 3000)
    assert by_turn.close_code is None
    stage.finish()
    assert heard(by_turn) == ["error"]
    assert heard(stays) == ["other/x"]
    codes = [peer.close_code for peer in (by_turn, by_request, stays)]
    assert codes == [3000, 3000, None]


def test_verdict_on_a_new_token_does_not_save_who_is_not_wanted_any_more(stage: Stage) -> None:
    peer = stage.join("ann")
    peer.send("authenticate", id=9, token="new")
    stage.take_back("ann")
    _, tell = peer.carrier.asked.popleft()
    tell(Identity("ann", source="token:ann"), stage.world.moment)
    assert (heard(peer), peer.close_code) == (["error"], 3000)


def test_other_groups_hold_at_once(stage: Stage) -> None:
    """A-020: for deliveries as well."""
    stage.change(Rules((FEED, Rule(("group:insiders",), ALL, ("#",)))))
    stage.finish()
    peer = stage.join("ann")
    broker, moment = stage.world.broker, stage.world.moment
    broker.set_access(broker.access, lambda one: evolve(one, groups=frozenset({"insiders"})), moment)
    assert peer.ask("subscribe", id=2, filter="news/#")["op"] == "subscribed"
    broker.set_access(broker.access, lambda one: evolve(one, groups=frozenset()), moment)
    stage.publish("news/x")
    stage.finish()
    assert heard(peer) == [-2]


def test_what_one_change_has_ended_the_next_does_not_bring_back(stage: Stage) -> None:
    """In between something was withheld, of which nobody would ever tell."""
    peer = stage.join("ann", "news/#", "other/x")
    stage.change(LESS)
    stage.publish("news/secret")
    stage.change(EVERYTHING)
    stage.publish("news/secret", "other/x")
    stage.finish()
    assert heard(peer) == ["other/x", -2]
    assert peer.ask("subscribe", id=2, filter="news/#")["op"] == "subscribed"


def test_who_one_change_did_not_want_the_next_does_not_bring_back(stage: Stage) -> None:
    peer = stage.join("ann")
    stage.take_back("ann")
    stage.take_back()
    stage.finish()
    assert peer.close_code == 3000


def test_change_in_the_middle_of_another(stage: Stage) -> None:
    """Those who had their turn get another one, and those who have not are told of both."""
    stage.world.broker.changeover.at_once = 1
    peers = [stage.join(f"u{n}", "a/x", "b/x", "c/x") for n in range(5)]
    stage.change(rules("b/#", "c/#"))
    steps = stage.world.broker.changeover.steps()
    for _ in range(3):
        next(steps)
    stage.change(rules("c/#"))
    for _ in steps:
        pass
    assert not stage.world.broker.changeover.is_open
    assert [sorted(heard(peer)) for peer in peers] == [[-3, -2]] * 5
    stage.change(EVERYTHING)
    assert stage.finish() == 1 + len(stage.world.broker.sessions)


def test_steps_are_bounded_in_subscriptions(stage: Stage) -> None:
    stage.world.broker.changeover.at_once = 8
    for number in range(20):
        stage.join(f"u{number}", "news/a", "news/b", "news/c")
    stage.change(LESS)
    assert stage.finish() == 1 + (1 + 20 * 4) // 8


def test_sessions_that_have_ended_are_no_matter(stage: Stage) -> None:
    peer = stage.join("ann", "news/#")
    stage.change(LESS)
    peer.hang_up()
    stage.publish("news/secret")
    stage.finish()


RULES = st.sampled_from(["a/x", "a/+", "a/#", "b/#", "#"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("rules"), st.lists(RULES, min_size=1, max_size=2)),
        st.tuples(st.just("publish"), st.sampled_from(["a", "a/x", "a/y", "b/x"])),
        st.tuples(st.just("ping"), st.integers(0, 1)),
        st.tuples(st.just("steps"), st.integers(1, 3)),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it makes a world each time
@given(
    st.lists(st.sampled_from(["a/x", "a/+", "a/#", "+/x", "#", "b/x"]), min_size=1, max_size=3),
    CHANGES,
    st.sampled_from([None, Overflow.CONFLATE]),
    st.booleans(),
)
def test_each_subscription_gets_what_it_would_if_all_were_carried_out_at_once(
    make_world: Callable[..., World],
    filters: list[str],
    changes: list[tuple[str, Any]],
    policy: Overflow | None,
    settles_later: bool,
) -> None:
    """Message for message, for two connections; and its end comes before what is newer than what it was refused."""
    later, at_once = (
        Stage(make_world(NamespaceSettings(overflow=policy), settles_later=settles_later)) for _ in range(2)
    )
    at_once.world.broker.changeover.soon = None
    later.world.broker.changeover.at_once = 1
    pairs = [(later.join(name, *filters), at_once.join(name, *filters)) for name in ("ann", "bob")]
    for kind, what in changes:
        for stage, column in ((later, 0), (at_once, 1)):
            if kind == "rules":
                stage.change(rules(*what))
            elif kind == "publish":
                stage.publish(what)
            elif kind == "ping":
                pairs[what][column].send("ping")
        if kind == "steps":
            for _ in zip(range(what), later.world.broker.changeover.steps(), strict=False):
                pass
    later.finish()
    for one, other in pairs:
        assert delivered(one, filters) == delivered(other, filters)


def delivered(peer: Peer, filters: list[str]) -> list[list[Any]]:
    """Return for each subscription what its client takes for its, in order, to its end."""
    live = dict(enumerate(map(parse_filter, filters), 2))
    found: dict[int, list[Any]] = {number: [] for number in live}
    for event in peer.take():
        if event["op"] == "unsubscribed":
            found[event["sub"]].append("end")
            del live[event["sub"]]
        elif event["op"] == "message":
            for number, filter_ in live.items():
                if filter_.matches(event["topic"]):
                    found[number].append(event["seq"])
    return list(found.values())

"""The whole broker against a naive model: what everyone must get, said without logs, cursors or indexes.

The machine publishes, subscribes, drains in odd pieces, waits and hangs up.
What a client was told (its events, in order) is all that is judged; the
model keeps every message for ever and knows what a log of that size would
still hold.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field
from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tercet_broker.core import HistorySettings, NamespaceSettings, Overflow
from tercet_broker.core.replay import SCAN
from tercet_protocol import parse_filter

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

NAMESPACES = {
    "kept": NamespaceSettings(history=HistorySettings(messages=6)),
    # The model knows no bound in bytes on what topics keep beyond the run: two of each of the five fit.
    "tails": NamespaceSettings(history=HistorySettings(messages=5, bytes=2400, per_topic=2)),
    "brief": NamespaceSettings(history=HistorySettings(messages=50, seconds=10.0)),
    "tiny": NamespaceSettings(history=HistorySettings(messages=1)),
    "plain": NamespaceSettings(history=HistorySettings(messages=8), retained=False),
    "cut": NamespaceSettings(history=HistorySettings(messages=7), overflow=Overflow.DISCONNECT),
    "thin": NamespaceSettings(history=HistorySettings(messages=9), overflow=Overflow.DROP_OLDEST),
    "ticks": NamespaceSettings(history=HistorySettings(messages=10), overflow=Overflow.CONFLATE),
    "bare": NamespaceSettings(),
}
HANDOVER = HistorySettings(messages=256, bytes=1 << 20)
STEPS = 50
GAP_FIELDS = ("epoch", "after", "through", "reason")
TOPICS = ["", "/a", "/a", "/b", "/a/c", "/ü"]  # within a namespace
INSIDE = ["", "/a", "/a", "/+", "/#", "/#", "/a/#", "/+/c", "/none"]
SPANNING = ["#", "+/a", "+/#", "+"]
# As they are written: digits, order and inner white space have to survive.
DATA = ["null", "0", "1.500", '{"b": 1,"a":2}', '"ü\\u00fc"', '"' + "x" * 150 + '"', "1e400", "[ ]"]


@define(eq=False, repr=False)
class Published:
    """A message as the model remembers it."""

    namespace: str
    topic: str
    seq: int
    time: int
    at: float
    data: bytes
    muted: Peer | None
    retain: bool

    def live(self) -> bytes:
        return b'{"op":"message","topic":%b,"seq":%d,"time":%d,"data":%b}' % (
            json.dumps(self.topic, ensure_ascii=False).encode(),
            self.seq,
            self.time,
            self.data,
        )

    def replayed(self, sub: int, *, retained: bool) -> bytes:
        return self.live()[:-1] + b',"sub":%d' % sub + (b',"retained":true' if retained else b"") + b"}"

    def frame_size(self) -> int:
        size = len(self.live())
        return size + (2 if size < 126 else 4)


@define(eq=False)
class Shelf:
    """All messages of a namespace, and which of them a log of its size still has."""

    name: str
    bounds: HistorySettings
    has_history: bool
    messages: list[Published] = field(factory=list)
    first: int = 1  # of the unbroken run
    values: dict[str, Published] = field(factory=dict)  # {topic: its retained value}

    @property
    def head(self) -> int:
        return len(self.messages)

    def publish(self, message: Published) -> None:
        self.messages.append(message)
        bounds = self.bounds
        while self.head + 1 - self.first > bounds.messages or (
            self.head > self.first and sum(m.frame_size() for m in self.messages[self.first - 1 :]) > bounds.bytes
        ):
            self.first += 1
        if message.retain:
            self.values.pop(message.topic, None)
            if message.data != b"null":
                self.values[message.topic] = message

    def expire(self, now: float) -> None:
        seconds = self.bounds.seconds
        while seconds and self.first <= self.head and self.messages[self.first - 1].at <= now - seconds:
            self.first += 1

    def kept(self, filter_: str) -> list[Published]:
        """Return what matches and is kept: the run, and the newest few of each topic."""
        parsed = parse_filter(filter_)
        found = []
        newer: dict[str, int] = {}
        for message in reversed(self.messages):
            count = newer[message.topic] = newer.get(message.topic, 0) + 1
            if parsed.matches(message.topic) and (message.seq >= self.first or count <= self.bounds.per_topic):
                found.append(message)
        return found[::-1]


@define(eq=False, repr=False)
class Expected:
    """A subscription: what it was promised, and what its client has been told.

    Attributes:
        after: what matches above this seq of its namespace it gets, in the replay or live.
        older: what the replay holds of the log at or below `after`.
        spare: what it may hold besides, in place of what was kept no more when it was looked at.
        replaced: those that it did.
        beyond: below this seq, what topics keep is read while they keep it [S-009].
        values: the retained values at or below `after` that were there when it began.
        starts: {namespace: live above this seq}, as its client knows.
        ends: {namespace: the head when it was unsubscribed}
    """

    id: int
    filter: str
    namespace: str | None
    after: dict[str, int]
    older: list[Published]
    values: list[Published]
    subscribed: dict[str, Any]
    starts: dict[str, int] | None = None
    ends: dict[str, int] | None = None
    replayed: list[int] = field(factory=list)
    gaps: list[tuple[int, int]] = field(factory=list)
    told: int = 0
    is_gap_due: dict[str, Any] | None = None
    spare: list[Published] = field(factory=list)
    replaced: list[int] = field(factory=list)
    beyond: int = 0

    def wants(self, message: Published, peer: Peer) -> bool:
        return message.muted is not peer and parse_filter(self.filter).matches(message.topic)

    def is_live_for(self, message: Published) -> bool:
        return (
            self.starts is not None
            and message.namespace in self.starts
            and self.starts[message.namespace] < message.seq
            and (self.ends is None or message.seq <= self.ends[message.namespace])
        )


@define(eq=False, repr=False)
class Client:
    """What one peer's client has been told, and was promised."""

    peer: Peer
    subscriptions: dict[int, Expected] = field(factory=dict)  # named, and not ended as far as it knows
    ended: list[Expected] = field(factory=list)
    waiting: dict[int, Expected] = field(factory=dict)  # {id: whose `subscribed` has not arrived}
    leaving: dict[int, Expected] = field(factory=dict)  # {id of the unsubscribe: whose}
    due: deque[dict[str, Any]] = field(factory=deque)  # the replies that have not arrived, in order
    live: dict[str, list[int]] = field(factory=dict)  # {namespace: seqs that arrived}
    gaps: dict[str, list[tuple[int, int]]] = field(factory=dict)  # {namespace: what is missing of what was live}
    asked: int = 0

    @property
    def everything(self) -> list[Expected]:
        return [*self.subscriptions.values(), *self.ended]


def in_gap(gaps: Iterable[tuple[int, int]], seq: int) -> bool:
    return any(after < seq <= through for after, through in gaps)


class BrokerMachine(RuleBasedStateMachine):
    make_world: Callable[..., World]
    scan: int

    @initialize(
        messages=st.sampled_from([1, 3, 8, 40]),
        size=st.sampled_from([1200, 4000]),
        names=st.lists(st.sampled_from(list(NAMESPACES)), min_size=1, max_size=2, unique=True),
        settles_later=st.booleans(),
        replays_later=st.booleans(),
    )
    def begin(self, messages: int, size: int, names: list[str], settles_later: bool, replays_later: bool) -> None:
        """Settle the outboxes, and which namespaces see all the traffic: in many little would happen."""
        self.names = names
        self.world = type(self).make_world(
            namespaces=NAMESPACES,
            settles_later=settles_later,
            message_bytes=500,
            outbox_messages=messages,
            outbox_bytes=size,
            history_messages=4,
            slow_seconds=5.0,
        )
        if replays_later:
            self.world.broker.begin_reading = lambda _: None
        self.shelves = {
            name: Shelf(name, settings.history or HANDOVER, settings.history is not None)
            for name, settings in NAMESPACES.items()
        }
        self.epoch = self.world.broker.epoch
        self.clients: list[Client] = []
        self.gone: list[Client] = []
        self.keys: dict[str, tuple[str, str, int, float]] = {}
        self.connect()

    # What happens

    @precondition(lambda self: len(self.clients) < 4)
    @rule()
    def connect(self) -> None:
        self.clients.append(Client(self.world.join()))

    def shelf(self, topic: str) -> Shelf:
        return self.shelves[topic.partition("/")[0]]

    def pick(self, data: st.DataObject) -> Client:
        if not self.clients:
            self.connect()
        return data.draw(st.sampled_from(self.clients), label="client")

    @rule(
        data=st.data(),
        rest=st.sampled_from(TOPICS),
        text=st.sampled_from(DATA),
        retain=st.booleans(),
        echo=st.booleans(),
        ask=st.booleans(),
        key=st.none() | st.sampled_from(["key-0123456789ab", "key-cdef01234567"]),
    )
    def publish(
        self, data: st.DataObject, rest: str, text: str, retain: bool, echo: bool, ask: bool, key: str | None
    ) -> None:
        client = self.pick(data)
        topic = data.draw(st.sampled_from(self.names), label="namespace") + rest
        shelf = self.shelf(topic)
        client.asked += 1
        id_ = 10_000 + client.asked
        request = f'{{"op":"publish","topic":{json.dumps(topic)},"data": {text} ,"retain":{json.dumps(retain)}'
        request += f',"echo":{json.dumps(echo)}'
        request += f',"id":{id_}' if ask else ""
        request += f',"key":"{key}"' if key else ""
        reply: dict[str, Any] = {"op": "published", "id": id_, "epoch": self.epoch}
        known = self.keys.get(f"{shelf.name} {key}") if key else None
        if known is not None and self.world.now < known[3]:
            if known[:2] == (topic, text):
                reply |= {"seq": known[2], "duplicate": True}
            else:
                reply = {"op": "error", "id": id_, "code": "key_reused"}
        elif retain and not NAMESPACES[shelf.name].retained:
            reply = {"op": "error", "id": id_, "code": "unsupported"}
        else:
            message = Published(
                namespace=shelf.name,
                topic=topic,
                seq=shelf.head + 1,
                time=self.world.moment.time,
                at=self.world.now,
                data=text.encode(),
                muted=None if echo else client.peer,
                retain=retain,
            )
            shelf.publish(message)
            shelf.expire(self.world.now)
            reply["seq"] = message.seq
            if key:
                self.keys[f"{shelf.name} {key}"] = (topic, text, message.seq, self.world.now + 300.0)
        if ask:
            client.due.append(reply)
        elif reply["op"] == "error":
            client.due.append(reply | {"id": None})
        client.peer.send_raw(request + "}")
        self.world.wait(0.0)
        self.bury()

    @rule(data=st.data(), count=st.integers(2, 9), rest=st.sampled_from(TOPICS), retain=st.booleans())
    def publish_many(self, data: st.DataObject, count: int, rest: str, retain: bool) -> None:
        """Enough to turn a small log over."""
        publisher = self.world.join()
        name = data.draw(st.sampled_from(self.names), label="namespace")
        shelf, retain = self.shelves[name], retain and NAMESPACES[name].retained
        for number in range(count):
            message = Published(
                namespace=name,
                topic=name + rest,
                seq=shelf.head + 1,
                time=self.world.moment.time,
                at=self.world.now,
                data=b"%d" % number,
                muted=None,
                retain=retain,
            )
            shelf.publish(message)
            shelf.expire(self.world.now)
            publisher.publish(name + rest, number, retain=retain)
            self.world.wait(0.0)
        publisher.hang_up()
        self.bury()

    @rule(
        data=st.data(),
        rest=st.sampled_from(INSIDE) | st.none(),
        start=st.sampled_from(["now", "last", "since", "since", "strange", "ahead"]),
        back=st.integers(0, 12),
        retained=st.sampled_from([None, True, False]),
    )
    def subscribe(self, data: st.DataObject, rest: str | None, start: str, back: int, retained: bool | None) -> None:
        client = self.pick(data)
        id_ = next(n for n in range(1, 100) if n not in client.subscriptions and n not in client.waiting)
        if rest is None:
            filter_ = data.draw(st.sampled_from(SPANNING), label="filter")
        else:
            filter_ = data.draw(st.sampled_from(self.names), label="namespace") + rest
        name = parse_filter(filter_).namespace
        request: dict[str, Any] = {"op": "subscribe", "id": id_, "filter": filter_}
        if name is None:
            reply: dict[str, Any] = {"op": "subscribed", "id": id_, "live": True}
            heads = {shelf.name: shelf.head for shelf in self.shelves.values()}
            client.waiting[id_] = Expected(id_, filter_, None, heads, [], [], reply)
        else:
            if retained is not None:
                request["retained"] = retained
            shelf = self.shelves[name]
            shelf.expire(self.world.now)
            gap: dict[str, Any] | None = None
            after, older, spare = shelf.head, list[Published](), list[Published]()
            with_values = retained is not False
            if start == "last":
                request["last"] = back
                mine = [m for m in shelf.kept(filter_) if m.muted is not client.peer]  # `echo: false` counts for none
                if shelf.has_history and back:
                    older, spare = mine[-back:], mine[:-back]
            elif start != "now":
                seq = {"since": max(0, shelf.head - back), "strange": back, "ahead": shelf.head + 1 + back}[start]
                epoch = "elsewhere" if start == "strange" else self.epoch
                request["since"] = {"epoch": epoch, "seq": seq}
                gap = self.gap_after(shelf, epoch, seq, shelf.first)
                if gap is None:
                    after, with_values = seq, False
                else:
                    after = shelf.head if start == "ahead" else shelf.first - 1
                    older = (
                        [m for m in shelf.kept(filter_) if gap["after"] < m.seq <= after] if shelf.has_history else []
                    )
            values = [m for m in shelf.values.values() if m.seq <= after] if with_values else []
            reply = {"op": "subscribed", "id": id_, "epoch": self.epoch, "seq": shelf.head}
            if "since" in request:
                reply["recovered"] = gap is None
            expected = Expected(id_, filter_, name, {name: after}, older, values, reply)
            # A search of several pages finds what is kept by then; one of a single page finds all that is.
            expected.spare, expected.beyond = (
                spare,
                shelf.head + 1 if start == "last" and self.scan < SCAN else shelf.first,
            )
            expected.is_gap_due = gap
            client.waiting[id_] = expected
        client.due.append(reply)
        client.peer.send_raw(json.dumps(request))
        self.bury()

    def gap_after(self, shelf: Shelf, epoch: str, seq: int, first: int) -> dict[str, Any] | None:
        """Return the gap of someone who stands at `seq`, where `first` is the oldest that is there."""
        gap: dict[str, Any] = {"epoch": self.epoch}
        if epoch != self.epoch:
            return gap | {"after": 0, "through": first - 1, "reason": "epoch"}
        if seq > shelf.head:
            return gap | {"after": shelf.head, "through": shelf.head, "reason": "unknown_position"}
        if seq < first - 1:
            return gap | {"after": seq, "through": first - 1, "reason": "expired"}
        return None

    @rule(data=st.data(), waiting=st.booleans())
    def unsubscribe(self, data: st.DataObject, waiting: bool) -> None:
        """End a subscription; perhaps one of which the client has not heard yet."""
        client = self.pick(data)
        known = [*client.subscriptions.values(), *(client.waiting.values() if waiting else ())]
        known = [expected for expected in known if expected.ends is None]
        if not known:
            return
        expected = data.draw(st.sampled_from(known), label="subscription")
        client.asked += 1
        id_ = 10_000 + client.asked
        expected.ends = {shelf.name: shelf.head for shelf in self.shelves.values()}
        client.leaving[id_] = expected
        client.due.append({"op": "unsubscribed", "id": id_})
        client.peer.send("unsubscribe", id=id_, sub=expected.id)
        self.bury()

    @rule(data=st.data(), count=st.integers(1, 400), advance=st.booleans())
    def drain(self, data: st.DataObject, count: int, advance: bool) -> None:
        """The socket takes a piece of any size."""
        client = self.pick(data)
        client.peer.flush(count)
        if advance:
            client.peer.session.advance()
        self.hear(client)

    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        self.pick(data).peer.session.advance()

    @rule(data=st.data())
    def drain_all(self, data: st.DataObject) -> None:
        client = self.pick(data)
        self.hear(client, everything=True)

    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Whoever has heard all and reconnects at once recovers: `position` came early enough [S-022]."""
        client = self.pick(data)
        self.hear(client, everything=True)
        fresh = None
        for expected in client.subscriptions.values():
            if expected.namespace is None or expected.starts is None or expected.ends is not None:
                continue
            if self.world.broker.namespace(expected.namespace).watch.is_fast:
                continue  # positions are told every ten seconds only
            fresh = fresh or self.world.join()
            self.shelves[expected.namespace].expire(self.world.now)
            since = {"epoch": self.epoch, "seq": expected.told}
            fresh.send("subscribe", id=expected.id, filter=expected.filter, since=since)
            reply = next(event for event in fresh.take() if event.get("id") == expected.id)
            assert reply["recovered"] is True
        if fresh is not None:
            fresh.hang_up()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 2.5, 400.0]))
    def wait(self, seconds: float) -> None:
        """The sweeper comes more often than the shortest log turns over."""
        for _ in range(max(1, int(seconds / 2.5)) if seconds < 100 else 3):
            self.world.wait(seconds)
            for shelf in self.shelves.values():
                shelf.expire(self.world.now)
        self.bury()

    @rule(data=st.data(), rest=st.sampled_from(["/#", "/+", "/a"]))
    def read_history(self, data: st.DataObject, rest: str) -> None:
        """Page through all of it: what is kept, once each, with a gap where something is gone [H-001] [H-002]."""
        reader = self.world.join()
        namespace = data.draw(st.sampled_from(self.names), label="namespace")
        shelf = self.shelves[namespace]
        since = data.draw(st.integers(0, shelf.head), label="since")
        shelf.expire(self.world.now)
        wanted = [m for m in shelf.kept(namespace + rest) if m.seq > since] if shelf.has_history else []
        first = shelf.first if shelf.has_history else shelf.head + 1
        found: list[tuple[int, Any]] = []
        seq, more = since, True
        while more:
            reply = reader.ask("history", filter=namespace + rest, since={"epoch": self.epoch, "seq": seq})
            told = reply.get("gap")
            assert self.gap_after(shelf, self.epoch, seq, first) == (told and {n: told[n] for n in GAP_FIELDS})
            found += [(message["seq"], message["data"]) for message in reply["messages"]]
            assert reply["head"] == {"epoch": self.epoch, "seq": shelf.head}
            more = reply["more"]
            assert reply["next"]["seq"] > seq or not more, "each page gets on"
            seq = reply["next"]["seq"]
        assert seq == shelf.head
        assert found == [(m.seq, json.loads(m.data)) for m in wanted]
        reader.hang_up()

    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        client = self.pick(data)
        self.hear(client)
        client.peer.hang_up()
        self.bury()

    # What is judged

    def bury(self) -> None:
        """Hear out those whose connection ended."""
        for client in [client for client in self.clients if client.peer.session.is_ended]:
            code = client.peer.close_code
            assert code in (None, 4000), client.peer.carrier.closed
            policies = {NAMESPACES[name].policy for name in self.names}
            assert code is None or Overflow.DISCONNECT in policies, "no policy of what came says so"
            if code is not None:
                client.peer.flush()
                assert not client.peer.session.outbox.is_behind
            self.clients.remove(client)
            self.hear(client)
            self.gone.append(client)

    def hear(self, client: Client, *, everything: bool = False) -> None:
        """Let the client handle what has arrived, and judge it."""
        before = len(client.peer.payloads) - len(client.peer.arrived())
        if everything:
            client.peer.take()
        for payload in client.peer.payloads[before:]:
            self.hear_one(client, json.loads(payload), payload)
        if everything:
            self.judge(client)
            assert [*client.waiting, *client.leaving, *client.due] == []
            for expected in client.subscriptions.values():
                assert expected.starts is not None, "a drained replay is live"

    def hear_one(self, client: Client, event: dict[str, Any], payload: bytes) -> None:
        match event["op"]:
            case "subscribed" | "unsubscribed" | "published" | "error":
                self.hear_reply(client, event)
            case "gap" if "namespace" in event:
                self.hear_loss(client, event)
            case "gap":
                self.hear_gap(client.subscriptions[event["sub"]], event)
            case "live":
                self.hear_end_of_replay(client, client.subscriptions[event["sub"]], event["seq"])
            case "position":
                self.hear_position(client, event)
            case "message" if "sub" in event:
                self.hear_replayed(client, client.subscriptions[event["sub"]], event, payload)
            case "message":
                self.hear_live(client, self.shelf(event["topic"]), event["seq"], payload)
            case _:
                raise AssertionError(event)

    def hear_reply(self, client: Client, event: dict[str, Any]) -> None:
        """Replies come in the order of the requests [C-021]."""
        due = client.due.popleft()
        assert {name: event.get(name) for name in due} == due
        assert event.get("duplicate", False) == due.get("duplicate", False)
        if event["op"] == "subscribed":
            expected = client.subscriptions[event["id"]] = client.waiting.pop(event["id"])
            assert ("recovered" in event) == ("recovered" in due)
            if event["live"] and expected.namespace is None:
                expected.starts = expected.after
            elif event["live"]:
                expected.starts = {event_namespace(expected): event["seq"]}
                expected.told = event["seq"]
        elif event["op"] == "unsubscribed":
            expected = client.leaving.pop(event["id"])
            del client.subscriptions[expected.id]  # what comes for it from here on is a KeyError
            client.ended.append(expected)

    def hear_end_of_replay(self, client: Client, expected: Expected, seq: int) -> None:
        assert expected.starts is None
        assert expected.is_gap_due is None
        expected.starts = {event_namespace(expected): seq}
        expected.told = seq
        self.judge_replay(client, expected, seq)

    def hear_position(self, client: Client, event: dict[str, Any]) -> None:
        assert event["epoch"] == self.epoch
        self.judge_live(client, event["namespace"], event["seq"])
        for expected in client.subscriptions.values():
            if expected.namespace == event["namespace"] and expected.starts is not None:
                expected.told = max(expected.told, event["seq"])

    def hear_gap(self, expected: Expected, event: dict[str, Any]) -> None:
        gap = (event["after"], event["through"])
        assert event["epoch"] == self.epoch
        assert expected.starts is None or expected.is_gap_due, "gaps belong to the replay"
        if expected.is_gap_due is not None:
            assert expected.is_gap_due.items() <= event.items()
            assert expected.replayed == []
            expected.is_gap_due = None
        else:
            assert event["reason"] == "overflow"
            assert all(seq <= gap[0] for seq in expected.replayed), "it stands where the loss is"
            assert gap[0] < gap[1] < self.shelves[event_namespace(expected)].first
            expected.gaps.append(gap)

    def hear_loss(self, client: Client, event: dict[str, Any]) -> None:
        """It stands where the first loss is [G-003], names its namespace [G-004], and counts [G-002]."""
        name, after, through = event["namespace"], event["after"], event["through"]
        policy = NAMESPACES[name].policy
        assert policy is not Overflow.DISCONNECT
        assert (event["epoch"], event["reason"]) == (self.epoch, "overflow")
        shelf = self.shelves[name]
        assert after < through <= shelf.head
        arrived = set(client.live.get(name, ()))
        lost = [
            m
            for m in shelf.messages[after:through]
            if m.seq not in arrived
            and any(item.wants(m, client.peer) and item.is_live_for(m) for item in client.everything)
        ]
        if policy is Overflow.CATCH_UP:
            assert "dropped" not in event
            assert through < shelf.first
        elif policy is Overflow.DROP_OLDEST:
            assert event["dropped"] == len(lost)
        else:
            assert 1 <= event["dropped"] <= len(lost)
        if policy is not Overflow.CONFLATE:
            assert all(seq <= after for seq in arrived)
            self.judge_live(client, name, after)
        client.gaps.setdefault(name, []).append((after, through))
        for expected in client.subscriptions.values():
            if expected.namespace == name and expected.starts is not None:
                expected.told = max(expected.told, through if policy is not Overflow.CONFLATE else 0)

    def hear_replayed(self, client: Client, expected: Expected, event: dict[str, Any], payload: bytes) -> None:
        seq = event["seq"]
        assert expected.starts is None
        assert expected.is_gap_due is None
        assert not expected.replayed or expected.replayed[-1] < seq, "in order, each once"
        assert not in_gap(expected.gaps, seq)
        name = event_namespace(expected)
        message = self.shelves[name].messages[seq - 1]
        assert expected.wants(message, client.peer)
        is_value = event.get("retained", False)
        if is_value:
            assert seq <= expected.after[name]
            # What the log was to give comes from there, unless only the snapshot still had it when it was looked at.
            assert message not in expected.older or message not in self.shelves[name].kept(expected.filter)
            assert message in expected.values
        elif seq <= expected.after[name] and message not in expected.older:
            assert message in expected.spare
            expected.replaced.append(seq)
        assert payload == message.replayed(expected.id, retained=is_value)
        expected.replayed.append(seq)

    def hear_live(self, client: Client, shelf: Shelf, seq: int, payload: bytes) -> None:
        arrived = client.live.setdefault(shelf.name, [])
        message = shelf.messages[seq - 1]
        policy = NAMESPACES[shelf.name].policy
        if policy is Overflow.CONFLATE:
            topical = [seq for seq in arrived if shelf.messages[seq - 1].topic == message.topic]
            assert not topical or topical[-1] < seq, "in order for each topic [M-010]"
        else:
            assert not arrived or arrived[-1] < seq, "in order, each once [M-004]"
            assert not in_gap(client.gaps.get(shelf.name, []), seq)
        assert payload == message.live()
        # Whom it was for: a subscription that was live then. Its end may not have been heard yet.
        assert any(item.wants(message, client.peer) and item.is_live_for(message) for item in client.everything)
        for item in client.subscriptions.values():
            wanted = item.namespace == shelf.name and item.wants(message, client.peer) and item.is_live_for(message)
            if wanted and policy is not Overflow.CONFLATE:  # there only positions say how far one is [M-011]
                item.told = max(item.told, seq)
        arrived.append(seq)
        if policy is not Overflow.CONFLATE:
            self.judge_live(client, shelf.name, seq)

    def judge_replay(self, client: Client, expected: Expected, live: int) -> None:
        """At its `live`, a replay has given all that it promised, or told the gap [S-005] [M-007]."""
        name = event_namespace(expected)
        shelf = self.shelves[name]
        got = set(expected.replayed)
        owed = [m for m in expected.older if expected.wants(m, client.peer)]
        missing = [m for m in owed if m.seq not in got and not in_gap(expected.gaps, m.seq)]
        kept = shelf.kept(expected.filter)
        assert not [m for m in missing if m.seq >= expected.beyond or m in kept]
        assert len(expected.replaced) <= sum(m not in kept for m in owed), "no more than `last` asked for"
        for message in shelf.messages[expected.after[name] : live]:
            if expected.wants(message, client.peer) and message.seq not in got:
                assert in_gap(expected.gaps, message.seq), "a loss without a gap"
        for value in expected.values:
            replaced = any(m.topic == value.topic and m.retain for m in shelf.messages[value.seq : live])
            if expected.wants(value, client.peer) and value.seq not in got:
                assert replaced or in_gap(expected.gaps, value.seq), "a retained value is missing"

    def judge_live(self, client: Client, name: str, through: int) -> None:
        """Everything up to `through` that matched a live subscription has arrived, or lies in a gap [M-007] [S-020]."""
        shelf = self.shelves[name]
        got, gaps = set(client.live.get(name, ())), client.gaps.get(name, [])
        policy = NAMESPACES[name].policy
        newest: dict[str, int] = {}  # {topic: seq of its newest value that has arrived}, where they take places
        if policy is Overflow.CONFLATE:
            newest = {shelf.messages[seq - 1].topic: seq for seq in sorted(got)}
        for expected in client.everything:
            if expected.starts is None or name not in expected.starts:
                continue
            if policy is Overflow.CATCH_UP and expected.ends is not None:
                continue  # what was not read from the log before its end does not come any more
            start = expected.starts[name]
            for message in shelf.messages[start:through]:
                if expected.wants(message, client.peer) and expected.is_live_for(message):
                    has_come = message.seq in got or newest.get(message.topic, 0) > message.seq
                    assert has_come or in_gap(gaps, message.seq), "a loss without a gap"

    def judge(self, client: Client) -> None:
        for name, shelf in self.shelves.items():
            self.judge_live(client, name, shelf.head)

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "world"):
            self.world.check()
            for name, shelf in self.shelves.items():  # (not by `statistics`, which settles)
                log = self.world.broker.namespace(name).log
                assert (log.head, log.first) == (shelf.head, shelf.first)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            for client in self.clients:
                self.hear(client, everything=True)
                client.peer.hang_up()
            for statistics in self.world.broker.statistics().namespaces:
                assert statistics.account.queued == statistics.subscribers == 0


def event_namespace(expected: Expected) -> str:
    assert expected.namespace is not None
    return expected.namespace


@pytest.mark.parametrize("scan", [SCAN, 2])
def test_broker_keeps_its_promises(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, scan: int
) -> None:
    """Also where each page of a replay looks at two records, so that everything happens between two of them."""
    monkeypatch.setattr("tercet_broker.core.replay.SCAN", scan)

    class Machine(BrokerMachine):
        pass

    Machine.scan = scan
    Machine.make_world = staticmethod(make_world)
    # No explaining: it traces every line of a machine that runs for long.
    phases = [phase for phase in Phase if phase is not Phase.explain]
    run_state_machine_as_test(Machine, settings=hypothesis_settings(stateful_step_count=STEPS, phases=phases))

"""Reading history: pages that give everything once, bounded in every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tercet_broker.core import Action, HistorySettings, NamespaceSettings, Rule, Rules

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World


def read(peer: Peer, filter_: str, **fields: Any) -> list[dict[str, Any]]:
    """Return all pages from the beginning on."""
    position = {"epoch": peer.world.broker.epoch, "seq": 0}
    pages = []
    while True:
        page = peer.ask("history", filter=filter_, since=position, **fields)
        pages.append(page)
        assert len(pages) < 1000
        if not page["more"]:
            return pages
        assert page["next"] != position, "each page gets on"
        position = page["next"]


def found(pages: list[dict[str, Any]]) -> list[int]:
    return [message["seq"] for page in pages for message in page["messages"]]


def test_history_is_the_newest_without_since(world: World) -> None:
    """[H-001]: oldest first, with the whole message."""
    peer = world.join()
    for number in range(5):
        peer.publish("t/a", {"n": number})
        peer.publish("t/b")
    reply = peer.ask("history", filter="t/a", limit=2)
    assert [(message["seq"], message["data"]) for message in reply["messages"]] == [(7, {"n": 3}), (9, {"n": 4})]
    assert reply["messages"][0] == {
        "op": "message",
        "topic": "t/a",
        "seq": 7,
        "time": world.moment.time,
        "data": {"n": 3},
    }
    assert reply["next"] == reply["head"] == {"epoch": world.broker.epoch, "seq": 10}
    assert reply["more"] is False


def test_history_data_is_byte_for_byte(world: World) -> None:
    """[C-018]"""
    peer = world.join()
    data = b'{"b": 1.50, "a":[ ],"u":"\\u00fc"}'
    peer.send_raw(b'{"op":"publish","topic":"t","data":%b}' % data)
    peer.ask("history", filter="t")
    assert b'"data":%b}' % data in peer.payloads[-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_history_pages_give_everything_once(world: World, limit: int) -> None:
    """[H-002]: also where `limit` falls on the last message."""
    peer = world.join()
    for number in range(21):
        peer.publish(f"t/{number % 3}")
    pages = read(peer, "t/1", limit=limit)
    assert found(pages) == list(range(2, 22, 3))
    assert all(len(page["messages"]) <= limit for page in pages)
    assert pages[-1]["next"]["seq"] == 21


def test_history_is_bounded_by_what_the_broker_gives(make_world: Callable[..., World]) -> None:
    """[H-003]: a limit above the broker's own, and none, are that."""
    peer = make_world(history_messages=4).join()
    for _ in range(10):
        peer.publish("t")
    for fields in ({}, {"limit": 100}):
        assert [len(page["messages"]) for page in read(peer, "t", **fields)] == [4, 4, 2]
        assert len(peer.ask("history", filter="t", **fields)["messages"]) == 4


def test_history_is_bounded_in_bytes(make_world: Callable[..., World]) -> None:
    """[H-003]: one message alone may be larger, so that reading gets on."""
    peer = make_world(history_bytes=250).join()
    for size in (10, 10, 400, 10, 400):
        peer.publish("t", "x" * size)
    assert [found([page]) for page in read(peer, "t")] == [[1, 2], [3], [4], [5]]
    assert found([peer.ask("history", filter="t")]) == [5]


def test_history_is_bounded_in_what_it_looks_at(make_world: Callable[..., World]) -> None:
    """[H-002] [H-003]: `next` gets on where nothing matches."""
    peer = make_world(history_scanned=10).join()
    for _ in range(25):
        peer.publish("t/busy")
    peer.publish("t/rare")
    pages = read(peer, "t/rare")
    assert [page["next"]["seq"] for page in pages] == [10, 20, 26]
    assert found(pages) == [26]


@pytest.mark.parametrize(("run", "per_topic"), [(100, 0), (5, 1)])
def test_newest_history_tells_where_it_stopped_looking(
    make_world: Callable[..., World], run: int, per_topic: int
) -> None:
    """[H-003] [H-006]: all that matches after `since` is there, be it in the run or beyond it."""
    settings = NamespaceSettings(history=HistorySettings(messages=run, per_topic=per_topic))
    peer = make_world(settings, history_scanned=10).join()
    for number in range(30):
        peer.publish(f"t/{number}")
    few = peer.ask("history", filter="t/+", limit=9)
    assert (found([few]), "since" in few) == ([*range(22, 31)], False)
    for filter_, seqs in (("t/+", [*range(21, 31)]), ("t/24", [25]), ("t/none/+", [])):
        reply = peer.ask("history", filter=filter_, limit=20)
        assert found([reply]) == seqs
        assert reply.get("since", {}).get("seq") == (None if filter_ == "t/24" else 20)
    rest = peer.ask("history", filter="t/+", since=reply["since"], limit=20)
    assert found([rest]) == [*range(21, 31)][-10 if run == 100 else 0 :]


def test_newest_history_tells_that_it_is_full(make_world: Callable[..., World]) -> None:
    """[H-003] [H-006]: in bytes."""
    peer = make_world(history_bytes=250).join()
    for _ in range(9):
        peer.publish("t", "x" * 20)
    reply = peer.ask("history", filter="t")
    assert found([reply]) == [8, 9]
    assert reply["since"] == {"epoch": peer.world.broker.epoch, "seq": 7}


def test_history_beyond_the_run_is_bounded_in_what_it_looks_at(make_world: Callable[..., World]) -> None:
    """[H-002] [H-003]: page after page, and each gets on."""
    settings = NamespaceSettings(history=HistorySettings(messages=5, per_topic=1))
    peer = make_world(settings, history_scanned=10).join()
    for number in range(35):
        peer.publish(f"t/{number}")
    pages = read(peer, "t/+")
    assert [page["next"]["seq"] for page in pages] == [10, 20, 30, 35]
    assert found(pages) == [*range(1, 36)]
    assert [page["next"]["seq"] for page in read(peer, "t/+/none")] == [10, 20, 30, 35]
    assert found(read(peer, "t/17")) == [18]


def test_history_tells_what_is_gone(make_world: Callable[..., World]) -> None:
    """[H-004]: and goes on with what is there, what topics keep beyond the run included."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=3, per_topic=2)))
    peer = world.join()
    for topic in ("t/a", "t/a", "t/a", "t/b", "t/b", "t/b", "t/b"):
        peer.publish(topic)
    for limit in (1, 2, 3, 10):
        pages = read(peer, "t/#", limit=limit)
        assert found(pages) == [2, 3, 5, 6, 7]
        assert pages[0]["gap"] == {
            "op": "gap",
            "namespace": "t",
            "epoch": world.broker.epoch,
            "after": 0,
            "through": 4,
            "reason": "expired",
        }
    ahead = peer.ask("history", filter="t/#", since={"epoch": world.broker.epoch, "seq": 8})
    assert ahead["messages"] == []
    assert (ahead["gap"]["after"], ahead["gap"]["through"], ahead["gap"]["reason"]) == (7, 7, "unknown_position")
    assert (ahead["next"]["seq"], ahead["more"]) == (7, False)
    other = peer.ask("history", filter="t/#", since={"epoch": "old", "seq": 6})
    assert found([other]) == [2, 3, 5, 6, 7]
    assert (other["gap"]["after"], other["gap"]["through"], other["gap"]["reason"]) == (0, 4, "epoch")
    assert "gap" not in peer.ask("history", filter="t/#", since={"epoch": world.broker.epoch, "seq": 4})


def test_history_does_not_show_what_has_become_too_old(make_world: Callable[..., World]) -> None:
    """[N-024]: at the moment of reading, not of the last sweep."""
    world = make_world(NamespaceSettings(history=HistorySettings(seconds=10.0)))
    peer = world.join()
    peer.publish("t")
    world.now = 5.0
    peer.publish("t")
    world.now = 10.0
    assert found([peer.ask("history", filter="t")]) == [2]


def test_history_does_not_see_the_handover_run(make_world: Callable[..., World]) -> None:
    """[H-005] [N-025]: and says that what followed the position cannot be read [H-004]."""
    world = make_world(NamespaceSettings())
    peer = world.join()
    for _ in range(3):
        peer.publish("t")
    head = {"epoch": world.broker.epoch, "seq": 3}
    reply = peer.ask("history", filter="t")
    assert (reply["messages"], reply["next"], reply["head"], reply["more"]) == ([], head, head, False)
    assert "gap" not in reply
    for epoch, seq, gap in (
        (None, 3, None),
        (None, 1, (1, 3, "expired")),
        (None, 4, (3, 3, "unknown_position")),
        ("old", 1, (0, 3, "epoch")),
    ):
        reply = peer.ask("history", filter="t", since={"epoch": epoch or world.broker.epoch, "seq": seq})
        assert (reply["messages"], reply["next"], reply["head"], reply["more"]) == ([], head, head, False)
        told = reply.get("gap")
        assert (told and (told["after"], told["through"], told["reason"])) == gap


def test_filter_with_very_many_wildcards_is_refused(world: World) -> None:
    """[N-014]: each of them may double the ways in which a topic is matched."""
    peer = world.join()
    assert peer.ask("subscribe", id=1, filter="t/" + "/".join("+" * 6))["op"] == "subscribed"
    refused = peer.ask("subscribe", id=2, filter="t/" + "/".join("+" * 7))
    assert (refused["op"], refused["code"]) == ("error", "invalid_filter")
    assert "6 levels" in refused["message"]


def is_held(peer: Peer) -> bool:
    return peer.session.outbox.is_held


def slices(peer: Peer) -> int:
    """Advance until what was asked for is answered; return how many steps that took."""
    for number in range(100):
        if not peer.session.outbox.is_behind:
            return number
        peer.session.advance()
    raise AssertionError


@pytest.mark.parametrize("since", [None, 0])
def test_history_of_much_takes_turns(world: World, since: int | None) -> None:
    """A step looks at 512 messages; what is asked for behind it waits, for the connection is not read from."""
    peer, reader = world.join(), world.join()
    for number in range(1500):
        peer.publish("t/x" if number else "t/x/rare")
    fields = {} if since is None else {"since": {"epoch": world.broker.epoch, "seq": since}}
    reader.send("history", id=1, filter="t/+/rare", **fields)
    assert is_held(reader)
    peer.publish("t/x/rare")  # comes too late for one that reads backwards, and in time for the other
    assert slices(reader) == 2
    assert not is_held(reader)
    (reply,) = reader.take()
    assert found([reply]) == ([1] if since is None else [1, 1501])
    assert reply["next"]["seq"] == (1500 if since is None else 1501)
    short = world.join()
    short.send("history", id=1, filter="t/+/rare", since={"epoch": world.broker.epoch, "seq": 1000})
    assert not is_held(short)


def test_history_ends_a_page_where_the_log_has_overrun_it(make_world: Callable[..., World]) -> None:
    """[H-004]: what was lost meanwhile is told by the next page, and nothing is passed over in silence."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=1000)))
    peer, reader = world.join(), world.join()
    for _ in range(1000):
        peer.publish("t/a")
    reader.send("history", id=1, filter="t/b", since={"epoch": world.broker.epoch, "seq": 0})
    for _ in range(600):
        peer.publish("t/a")
    slices(reader)
    (page,) = reader.take()
    assert (page["next"]["seq"], page["more"], "gap" in page) == (512, True, False)
    following = reader.ask("history", filter="t/b", since=page["next"])
    assert (following["gap"]["after"], following["gap"]["through"], following["next"]["seq"]) == (512, 600, 1600)


def test_positions_are_told_while_a_history_is_read(world: World) -> None:
    """S-023: it keeps the connection from being read from, but the client does read."""
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", filter="t/quiet")
    publisher.publish("t/busy")
    world.broker.begin_reading = lambda _: None
    peer.send("history", id=7, filter="t/#")
    assert peer.session.outbox.is_held
    list(world.broker.drain(lambda: 1.0))
    assert [event["op"] for event in peer.take()] == ["position", "drain", "history"]


def test_history_that_is_forbidden_meanwhile(world: World) -> None:
    """A-014."""
    peer, reader = world.join(), world.join()
    for _ in range(600):
        peer.publish("t/a")
    reader.send("history", id=1, filter="t/+/b")
    world.broker.set_rules(Rules((Rule(("*",), (Action.HISTORY,), ("u/#",)),)))
    slices(reader)
    assert [(event["op"], event["id"], event["code"]) for event in reader.take()] == [("error", 1, "forbidden")]


def test_history_waits_until_what_came_before_is_read(world: World) -> None:
    """Who reads nothing holds one page, and not as many as its outbox would take."""
    peer, reader = world.join(), world.join()
    for _ in range(20):
        peer.publish("t/a", "x" * 10_000)
    reader.send("history", id=1, filter="t/#")
    reader.send("history", id=2, filter="t/#")
    reader.session.advance()
    assert [event["id"] for event in reader.queued()] == [1]
    assert is_held(reader)
    assert [event["id"] for event in reader.take()] == [1, 2]

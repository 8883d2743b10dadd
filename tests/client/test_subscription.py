"""Subscribing, dispatch, positions, the end of a subscription."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import tercet
from tercet import Gap, Live, Message, Position

if TYPE_CHECKING:
    from tests.client.conftest import Beside, Peer, ScriptedBroker


async def read(subscription: tercet.Subscription, count: int) -> list[int]:
    with trio.fail_after(1):
        return [(await subscription.receive()).seq for _ in range(count)]


async def collect(subscription: tercet.Subscription) -> AsyncIterator[Message | Gap | Live]:
    """Give every event that is there."""
    events = subscription.events()
    while True:
        with trio.move_on_after(1) as scope:
            event = await anext(events)
        if scope.cancelled_caught:
            return
        yield event


async def assert_nothing(subscription: tercet.Subscription) -> None:
    with trio.move_on_after(1):
        pytest.fail(f"unexpected {await subscription.receive()}")


async def test_message_is_what_was_published(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        broker.nursery.start_soon(peer.subscribed, "a/+")
        async with client.subscribe("a/+") as subscription:
            await peer.websocket.send_message('{"op":"message","topic":"a/x","seq":1,"time":7,"data":[1.50]}')
            message = await subscription.receive()
            assert (message.topic, message.seq, message.time, message.epoch) == ("a/x", 1, 7, "e1")
            assert (message.raw, message.data, message.retained) == (b"[1.50]", [1.5], False)
            assert message.position == Position("e1", 1)
            assert subscription.filter == "a/+"


async def test_data_that_python_cannot_hold_raises_only_when_touched(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        broker.nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.websocket.send_message('{"op":"message","topic":"a/x","seq":1,"time":7,"data":1e999}')
            message = await subscription.receive()
            assert message.raw == b"1e999"
            with pytest.raises(ValueError, match="cannot be held"):
                _ = message.data


async def test_live_message_goes_to_every_live_match_below_its_seq(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    """M-003."""
    async with broker.session() as (client, peer):

        async def accept() -> None:
            await peer.subscribed("a/+", seq=10)
            await peer.subscribed("a/x", seq=12)
            await peer.subscribed("b/x", seq=0)

        nursery.start_soon(accept)
        async with client.subscribe("a/+") as wide, client.subscribe("a/x") as narrow, client.subscribe("b/x") as other:
            for seq in (11, 12, 13):
                await peer.message(seq)
            await peer.message(14, topic="a/y")
            await peer.message(1, topic="b/x")
            assert await read(wide, 4) == [11, 12, 13, 14]
            assert await read(narrow, 1) == [13]
            assert await read(other, 1) == [1]
            for subscription in (wide, narrow, other):
                await assert_nothing(subscription)


async def test_replay_then_live(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """S-005, S-021: while it replays, live messages and positions are not its own."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=20)
            await peer.message(8, sub=sub, retained=True)
            await peer.message(19, sub=sub)
            await peer.message(21)  # live, for somebody else: it comes again below
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 21})
            await peer.message(21, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 22})
            await peer.message(22)
            await peer.message(23)

        nursery.start_soon(play)
        async with client.subscribe("a/x", last=2) as subscription:
            seen = [
                (event.seq, event.retained) if isinstance(event, Message) else event
                async for event in collect(subscription)
            ]
            assert seen == [(8, True), (19, False), (21, False), Live(Position("e1", 22)), (23, False)]


async def test_request_carries_the_options(broker: ScriptedBroker, beside: Beside) -> None:
    async def enter(**options: object) -> None:
        async with client.subscribe("a/x", **options):  # type: ignore[arg-type]
            pass

    async with broker.session() as (client, peer):
        await beside(enter, since="e:1:5", retained=False)
        request = await peer.receive()
        assert (request["since"], request["retained"]) == ({"epoch": "e:1", "seq": 5}, False)
        await beside(enter, last=7)
        request = await peer.receive()
        assert (request["last"], "since" in request, "retained" in request) == (7, False, False)


async def test_mistakes_of_the_caller(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        for filter_, options in (
            ("a/x", {"since": "e1:5", "last": 3}),
            ("a/x", {"since": "what"}),
            ("a/x", {"last": -1}),
            ("a/x", {"buffer": 0}),
            ("+/x", {"last": 3}),
            ("#", {"since": Position("e1", 5)}),
            ("#", {"retained": True}),
            ("a//x", {}),
        ):
            with pytest.raises(ValueError, match=r"."):
                async with client.subscribe(filter_, **options):
                    pytest.fail("subscribed")
        await peer.expect_silence()


async def test_refused_subscribe_raises_on_entering(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):

        async def refuse() -> None:
            await peer.error(await peer.expect("subscribe"), "forbidden")

        nursery.start_soon(refuse)
        with pytest.raises(tercet.RefusedError, match="forbidden"):
            async with client.subscribe("a/x"):
                pytest.fail("subscribed")
        await peer.expect_silence()
        assert client.statistics().subscriptions == 0


async def test_leaving_unsubscribes_and_waits_for_nothing(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        with trio.CancelScope() as scope:
            async with client.subscribe("a/x") as subscription:
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await peer.expect("unsubscribe", sub=2)
        await peer.message(1)
        with pytest.raises(tercet.ClosedSubscriptionError):
            await subscription.receive()
        assert client.statistics().subscriptions == 0


async def test_cancelled_while_entering_unsubscribes(broker: ScriptedBroker, beside: Beside) -> None:
    async def enter() -> None:
        async with client.subscribe("a/x"):
            pytest.fail("subscribed")

    async with broker.session() as (client, peer):
        call = await beside(enter)
        request = await peer.expect("subscribe")
        call.scope.cancel()
        await call.done.wait()
        await peer.expect("unsubscribe", sub=request["id"])
        await peer.send({"op": "subscribed", "id": request["id"], "live": True, "epoch": "e1", "seq": 3})
        await peer.cut()
        await (await broker.welcome()).expect_silence()


async def test_cancelled_receive_takes_nothing(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            with trio.move_on_after(1) as scope:
                await subscription.receive()
            assert scope.cancelled_caught
            await peer.message(1)
            with trio.CancelScope() as scope:
                scope.cancel()
                await subscription.receive()
            assert scope.cancelled_caught
            assert await read(subscription, 1) == [1]


async def test_broker_may_end_a_subscription(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """S-030: what is buffered comes first."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.message(1)
            await peer.send({"op": "unsubscribed", "sub": 2, "code": "forbidden", "message": "no more"})
            await peer.message(2)
            assert await read(subscription, 1) == [1]
            for _ in range(2):
                with pytest.raises(tercet.BrokenSubscriptionError, match="no more") as caught:
                    await subscription.receive()
                assert (caught.value.code, caught.value.message) == ("forbidden", "no more")
        await peer.expect_silence()  # there is nothing to unsubscribe


async def test_iteration_hands_out_what_is_buffered_before_the_end(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.message(1)
            await peer.message(2)
            await peer.close(4500, "kicked")
            seen = []

            async def iterate() -> None:
                async for message in subscription:
                    seen.append(message.seq)  # noqa: PERF401 - it ends with an error

            with pytest.raises(tercet.BrokenClientError, match="kicked"):
                await iterate()
            assert seen == [1, 2]


async def test_readers_share_a_subscription(broker: ScriptedBroker, beside: Beside, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            calls = [await beside(subscription.receive) for _ in range(2)]
            await peer.message(1)
            await peer.message(2)
            assert [(await call.outcome()).seq for call in calls] == [1, 2]
            waiting = await beside(subscription.receive)
        with pytest.raises(tercet.ClosedSubscriptionError):
            await waiting.outcome()


async def test_position_is_what_was_handed_out(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """S-024: not what has arrived; a notice counts once its turn has come."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=20)
            await peer.message(4, sub=sub, retained=True)
            await peer.message(19, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 20})
            await peer.message(25)

        nursery.start_soon(play)
        async with client.subscribe("a/x", last=1) as subscription:
            await trio.sleep(0.1)
            assert str(subscription.position) == "None"
            assert subscription.buffered == 3
            assert await read(subscription, 1) == [4]
            assert str(subscription.position) == "None"  # a last value says nothing of what lies before it
            assert await read(subscription, 1) == [19]
            assert subscription.position == Position("e1", 19)
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 40})
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 50})
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 45})
            await peer.send({"op": "position", "namespace": "b", "epoch": "e1", "seq": 60})
            await peer.send({"op": "position", "namespace": "a", "epoch": "e0", "seq": 60})
            assert await read(subscription, 1) == [25]
            assert subscription.position == Position("e1", 25)
            await assert_nothing(subscription)
            assert subscription.position == Position("e1", 50)
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 60})
            assert subscription.position == Position("e1", 60)


async def test_position_starts_at_since(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):

        async def play() -> None:
            await peer.subscribed("a/x", live=False, seq=20, recovered=True)

        nursery.start_soon(play)
        async with client.subscribe("a/x", since="e1:15") as subscription:
            assert subscription.position == Position("e1", 15)


async def test_gaps_in_their_place(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """G-007, G-009."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=20)
            await peer.send({"op": "gap", "sub": sub, "epoch": "e1", "after": 3, "through": 9, "reason": "expired"})
            await peer.message(5, sub=sub, retained=True)
            await peer.message(10, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 20})
            overflow = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 20, "through": 30, "dropped": 4}
            await peer.send(overflow | {"reason": "overflow"}, overflow | {"after": 30, "through": 31, "reason": "new"})
            await peer.send(overflow | {"namespace": "b", "reason": "overflow"})
            await peer.message(32)

        nursery.start_soon(play)
        async with client.subscribe("a/x", since="e1:3") as subscription:
            seen: list[object] = []
            positions = []
            with trio.move_on_after(1):
                async for event in subscription.events():
                    seen.append(event.seq if isinstance(event, Message) else event)
                    positions.append(None if subscription.position is None else subscription.position.seq)
            assert seen == [
                Gap("a", "e1", 3, 9, None, tercet.GapReason.EXPIRED),
                5,
                10,
                Live(Position("e1", 20)),
                Gap("a", "e1", 20, 30, 4, tercet.GapReason.OVERFLOW),
                Gap("a", "e1", 30, 31, 4, "new"),
                32,
            ]
            assert positions == [9, 9, 10, 20, 30, 31, 32]
            assert subscription.gaps == 3


async def test_gap_of_a_lost_sequence_changes_the_epoch(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """G-006: lower seqs of the new epoch are no repeats."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=5, epoch="e2")
            await peer.send({"op": "gap", "sub": sub, "epoch": "e2", "after": 0, "through": 3, "reason": "epoch"})
            await peer.message(4, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 5})

        nursery.start_soon(play)
        async with client.subscribe("a/x", since="e1:90", on_gap=lambda _: None) as subscription:
            message = await subscription.receive()
            assert message.position == subscription.position == Position("e2", 4)


async def test_live_gap_may_change_the_epoch(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(partial(peer.subscribed, "a/x", seq=90))
        async with client.subscribe("a/x", on_gap=lambda _: None) as subscription:
            await peer.send({"op": "gap", "namespace": "a", "epoch": "e2", "after": 0, "through": 2, "reason": "epoch"})
            await peer.message(3)
            assert (await subscription.receive()).position == Position("e2", 3)


async def test_position_ahead_of_the_head(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """G-005: what is there is no repeat."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=5)
            await peer.send(
                {"op": "gap", "sub": sub, "epoch": "e1", "after": 5, "through": 5, "reason": "unknown_position"}
            )
            await peer.message(2, sub=sub, retained=True)
            await peer.send({"op": "live", "sub": sub, "seq": 5})
            await peer.message(6)

        nursery.start_soon(play)
        async with client.subscribe("a/x", since="e1:90", on_gap=lambda _: None) as subscription:
            assert await read(subscription, 2) == [2, 6]
            assert subscription.position == Position("e1", 6)


async def test_on_gap_is_called_by_the_reader_in_order(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    seen: list[object] = []
    async with broker.session(on_gap=lambda gap: seen.append(("client", gap.through))) as (client, peer):

        async def play() -> None:
            await peer.subscribed("a/x")
            await peer.subscribed("a/x")
            await peer.message(1)
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 1, "through": 2, "reason": "overflow"}
            await peer.send(gap)
            await peer.message(3)

        nursery.start_soon(play)
        async with (
            client.subscribe("a/x", on_gap=lambda gap: seen.append(("own", gap.through))) as own,
            client.subscribe("a/x") as plain,
        ):
            await read(own, 1)
            await trio.testing.wait_all_tasks_blocked()
            assert seen == []
            await read(own, 1)
            await read(plain, 2)
            assert seen == [("own", 2), ("client", 2)]


async def test_gap_that_nobody_takes_is_logged(
    broker: ScriptedBroker, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.send(
                {
                    "op": "gap",
                    "namespace": "a",
                    "epoch": "e1",
                    "after": 1,
                    "through": 9,
                    "dropped": 2,
                    "reason": "overflow",
                }
            )
            with caplog.at_level(logging.WARNING, "tercet"):
                await assert_nothing(subscription)
            assert caplog.messages == ["messages may be missing from 'a/x': overflow in a after 1 through 9, 2 dropped"]


async def test_what_concerns_no_subscription_is_ignored(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """C-016: unknown ops and fields as well."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.message(1, sub=99)
            await peer.send(
                {"op": "live", "sub": 99, "seq": 1},
                {"op": "live", "sub": 2, "seq": 1},
                {"op": "gap", "sub": 99, "epoch": "e1", "after": 0, "through": 1, "reason": "overflow"},
                {"op": "unsubscribed", "sub": 99, "code": "x", "message": ""},
                {"op": "unsubscribed", "id": 99},
                {"op": "subscribed", "id": 2, "live": True, "epoch": "e9", "seq": 99},
                {"op": "subscribed", "id": 99, "live": True},
                {"op": "presence", "members": [], "count": 0},
                {"op": "connected", "id": 1, "connection": "", "server": "", "heartbeat": 0.0, "limits": peer.limits},
                {"op": "brand_new", "x": 1},
            )
            await peer.message(2, brand_new=1)
            assert await read(subscription, 1) == [2]
            assert subscription.gaps == 0


async def test_conflated_namespace_is_not_deduplicated_by_seq(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """M-010, M-011: seq may fall; a message is no position to resume from."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            await peer.subscribed("a/+", seq=5, conflated=True)

        nursery.start_soon(play)
        async with client.subscribe("a/+") as subscription:
            await peer.message(5, topic="a/z")
            await peer.message(9, topic="a/x")
            await peer.message(7, topic="a/y")
            assert await read(subscription, 2) == [9, 7]
            assert subscription.position == Position("e1", 5)
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 9})
            assert subscription.position == Position("e1", 9)
            await peer.message(12)
            await read(subscription, 1)
            await peer.cut()
            peer = await broker.welcome()
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 9})


async def test_gap_in_a_conflated_namespace_is_no_position(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """M-010, G-003: it is told and counted, older values of other topics may follow, and are handed over."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            await peer.subscribed("a/+", seq=5, conflated=True)

        nursery.start_soon(play)
        async with client.subscribe("a/+") as subscription:
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 6, "through": 20, "reason": "overflow"}
            await peer.send({**gap, "dropped": 3})
            await peer.message(9, topic="a/y")
            await peer.message(21)
            events = subscription.events()
            assert isinstance(await anext(events), tercet.Live)
            told = await anext(events)
            assert isinstance(told, tercet.Gap)
            assert (told.namespace, told.after, told.through, told.dropped) == ("a", 6, 20, 3)
            assert await read(subscription, 2) == [9, 21]
            assert subscription.gaps == 1
            assert subscription.position == Position("e1", 5), "to resume behind the gap would lose a/y"
            await peer.cut()
            peer = await broker.welcome()
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 5})


async def test_gap_in_a_replay_of_a_conflated_namespace_is_a_position(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    """A replay does not conflate: behind its gap comes only what is newer."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            await peer.subscribed("a/+", seq=5, conflated=True)

        nursery.start_soon(play)
        async with client.subscribe("a/+") as subscription:
            await peer.cut()
            peer = await broker.welcome()
            request = await peer.expect("subscribe", since={"epoch": "e1", "seq": 5})
            sub = request["id"]
            lost = {"op": "gap", "sub": sub, "epoch": "e1", "after": 5, "through": 30, "reason": "expired"}
            await peer.send(
                {"op": "subscribed", "id": sub, "live": False, "epoch": "e1", "seq": 40, "conflated": True}, lost
            )
            events = subscription.events()
            while not isinstance(await anext(events), tercet.Gap):
                pass
            assert subscription.position == Position("e1", 30)


async def spanning(peer: Peer) -> None:
    request = await peer.expect("subscribe")
    assert "since" not in request
    await peer.send({"op": "subscribed", "id": request["id"], "live": True})


async def test_filter_that_spans_namespaces(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """G-008: it cannot resume, so it says so; once, however often that happened."""
    async with broker.session() as (client, peer):
        nursery.start_soon(spanning, peer)
        async with client.subscribe("+/x") as subscription:
            await peer.message(9, topic="a/x")
            await peer.message(3, topic="b/x")
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 9})
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 9, "through": 12, "reason": "overflow"}
            await peer.send(gap, gap | {"namespace": "$sys"})
            for _ in range(2):
                await peer.cut()
                peer = await broker.welcome()
                await spanning(peer)
            await peer.message(4, topic="b/x")
            seen = [
                (event.topic, event.epoch) if isinstance(event, Message) else event
                async for event in collect(subscription)
            ]
            assert seen == [
                Live(None),
                ("a/x", None),
                ("b/x", None),
                Gap("a", "e1", 9, 12, None, tercet.GapReason.OVERFLOW),
                Gap(None, None, None, None, None, tercet.GapReason.RECONNECTED),
                Live(None),
                Gap(None, None, None, None, None, tercet.GapReason.RECONNECTED),
                Live(None),
                ("b/x", None),
            ]
            assert subscription.position is None
            assert str(seen[4]) == "reconnected in several namespaces"


async def test_many_topics_do_not_fill_the_route_cache(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/0")
        async with client.subscribe("a/0") as subscription:
            for seq in range(1, 5000):
                await peer.websocket.send_message(
                    f'{{"op":"message","topic":"a/{seq % 4999}","seq":{seq},"time":1,"data":1}}'
                )
            assert await read(subscription, 1) == [4999]
            assert client.statistics().received == 4999


async def test_history_gives_a_page(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.history, "a/+", since="e1:3", limit=10)
        request = await peer.expect("history", filter="a/+", since={"epoch": "e1", "seq": 3}, limit=10)
        await peer.send(
            {
                "op": "history",
                "id": request["id"],
                "messages": [{"op": "message", "topic": "a/x", "seq": 5, "time": 9, "data": "hi"}],
                "next": {"epoch": "e1", "seq": 8},
                "head": {"epoch": "e1", "seq": 20},
                "more": True,
                "gap": {"op": "gap", "epoch": "e1", "after": 3, "through": 4, "reason": "expired"},
            }
        )
        page = await call.outcome()
        assert page == tercet.HistoryPage(
            (Message("a/x", 5, "e1", 9, b'"hi"'),),
            Position("e1", 8),
            Position("e1", 20),
            more=True,
            gap=Gap("a", "e1", 3, 4, None, tercet.GapReason.EXPIRED),
        )


async def test_newest_history_tells_where_it_begins(broker: ScriptedBroker, beside: Beside) -> None:
    """[H-006]"""
    async with broker.session() as (client, peer):
        call = await beside(client.history, "a/+")
        request = await peer.expect("history", filter="a/+")
        here = {"epoch": "e1", "seq": 20}
        since = {"epoch": "e1", "seq": 7}
        await peer.send(
            {"op": "history", "id": request["id"], "messages": [], "next": here, "head": here, "more": False}
            | {"since": since}
        )
        page = await call.outcome()
        assert (page.since, page.gap, page.more) == (Position("e1", 7), None, False)


async def test_history_is_asked_again_and_refused(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.history, "a/+")
        await peer.send({"op": "drain", "retry_after": 0.5})
        await peer.error(await peer.expect("history"), "unavailable", 1.0)
        await peer.close(1012)
        peer = await broker.welcome()
        await peer.error(await peer.expect("history"), "forbidden")
        with pytest.raises(tercet.RefusedError, match="forbidden"):
            await call.outcome()
        with pytest.raises(ValueError, match="1 message or more"):
            await client.history("a/x", limit=0)


async def test_cancelled_history_leaves_nothing(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.history, "a/+")
        call.scope.cancel()
        await call.done.wait()
        await peer.expect("history")
        await peer.cut()
        await (await broker.welcome()).expect_silence()

"""What becomes of subscriptions when connections end, and when their buffers are full."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import tercet
from tercet import Gap, Live, Message, Position

if TYPE_CHECKING:
    from tests.client.conftest import Beside, ScriptedBroker


async def drain(subscription: tercet.Subscription) -> list[object]:
    """Return everything that is there: seqs for messages, gaps, "live"."""
    seen: list[object] = []
    with trio.move_on_after(0.1):
        async for event in subscription.events():
            match event:
                case Message():
                    seen.append(event.seq)
                case Live():
                    seen.append("live")
                case Gap():
                    seen.append(event)
    return seen


async def test_resumes_from_its_position_under_a_new_id(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """S-024, and repeats are dropped."""
    async with broker.session() as (client, peer):
        nursery.start_soon(partial(peer.subscribed, "a/x", seq=10))
        async with client.subscribe("a/x", retained=False) as subscription:
            await peer.message(11)
            await peer.message(12)
            await peer.cut()
            peer = await broker.welcome()
            request = await peer.expect("subscribe", since={"epoch": "e1", "seq": 12}, retained=False)
            assert request["id"] > 2
            assert "last" not in request
            sub = request["id"]
            await peer.send({"op": "subscribed", "id": sub, "live": False, "epoch": "e1", "seq": 14, "recovered": True})
            for seq in (12, 13, 14):
                await peer.message(seq, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 14})
            await peer.message(14)
            await peer.message(15)
            assert await drain(subscription) == ["live", 11, 12, 13, 14, "live", 15]
            assert subscription.gaps == 0


async def test_resumes_from_what_is_buffered_not_from_what_was_read(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(partial(peer.subscribed, "a/x", seq=10))
        async with client.subscribe("a/x") as subscription:
            for seq in (11, 12, 13):
                await peer.message(seq)
            assert (await subscription.receive()).seq == 11
            await peer.cut()
            peer = await broker.welcome()
            await peer.subscribed("a/x", seq=13, recovered=True)
            assert subscription.position == Position("e1", 11)
            assert await drain(subscription) == [12, 13, "live"]


async def test_a_notice_of_a_position_moves_the_resumption(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(partial(peer.subscribed, "a/x", seq=10))
        async with client.subscribe("a/x"):
            await peer.send({"op": "position", "namespace": "a", "epoch": "e1", "seq": 999})
            await peer.cut()
            peer = await broker.welcome()
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 999})


async def test_interrupted_in_the_replay(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """Past a message of the log it resumes there; a namespace's gap does not move it while it replays."""
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/x", live=False, seq=20)
            await peer.message(5, sub=sub, retained=True)
            await peer.message(11, sub=sub)
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 20, "through": 99, "reason": "overflow"}
            await peer.send(gap)

        nursery.start_soon(play)
        async with client.subscribe("a/x", last=9) as subscription:
            assert await drain(subscription) == [5, 11]
            await peer.cut()
            peer = await broker.welcome()
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 11})


@pytest.mark.parametrize(
    ("epoch", "head", "replay", "expected"),
    [
        ("e1", 20, [9, 15, 16], [9, "live"]),  # nothing new: 15 and 16 were promised, and come
        ("e1", 30, [28, 29], [Gap("a", "e1", 20, 30, None, tercet.GapReason.RECONNECTED), 28, 29, "live"]),
        ("e1", 30, [19, 28], [19, Gap("a", "e1", 20, 30, None, tercet.GapReason.RECONNECTED), 28, "live"]),
        ("e1", 30, [], [Gap("a", "e1", 20, 30, None, tercet.GapReason.RECONNECTED), "live"]),
        ("e1", 20, [], ["live"]),
        ("e2", 3, [3], [Gap("a", "e2", 0, 3, None, tercet.GapReason.RECONNECTED), 3, "live"]),
    ],
)
async def test_first_replay_is_started_over(
    broker: ScriptedBroker, nursery: trio.Nursery, epoch: str, head: int, replay: list[int], expected: list[object]
) -> None:
    """Before any message of the log there is no position: the original request again.

    What was published since the subscription first took effect (at 20) was
    promised, and some of it may be in no replay, so it is told as a gap
    (G-008). That the replay begins before 20 proves nothing: a topic's newest
    messages outlive the run.
    """
    if replay == [9, 15, 16]:
        expected = [9, 15, 16, "live"]
    async with broker.session() as (client, peer):

        async def play() -> None:
            sub = await peer.subscribed("a/+", live=False, seq=20)
            await peer.message(4, topic="a/y", sub=sub, retained=True)
            await peer.message(7, topic="a/z", sub=sub, retained=True)

        nursery.start_soon(play)
        async with client.subscribe("a/+", last=3) as subscription:
            assert await drain(subscription) == [4, 7]
            assert subscription.position is None
            await peer.cut()
            peer = await broker.welcome()
            request = await peer.expect("subscribe", last=3)
            assert "since" not in request
            sub = request["id"]
            await peer.send({"op": "subscribed", "id": sub, "live": False, "epoch": epoch, "seq": head})
            if epoch == "e1":
                await peer.message(7, topic="a/z", sub=sub, retained=True)  # a repeat
            for seq in replay:
                await peer.message(seq, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": head})
            assert await drain(subscription) == expected
            assert subscription.position == Position(epoch, head)


async def test_cut_before_subscribed_is_asked_again(broker: ScriptedBroker, beside: Beside) -> None:
    async def enter() -> Position | None:
        async with client.subscribe("a/x") as subscription:
            return subscription.position

    async with broker.session() as (client, peer):
        call = await beside(enter)
        await peer.expect("subscribe")
        await peer.cut()
        peer = await broker.welcome()
        await peer.subscribed("a/x", seq=3)
        await call.outcome()


async def test_unavailable_while_draining_is_asked_again(broker: ScriptedBroker, beside: Beside) -> None:
    async def enter() -> None:
        async with client.subscribe("a/x"):
            pass

    async with broker.session() as (client, peer):
        await peer.send({"op": "drain", "retry_after": 1.0})
        call = await beside(enter)
        await peer.error(await peer.expect("subscribe"), "unavailable", 1.0)
        await peer.close(1012)
        peer = await broker.welcome()
        await peer.subscribed("a/x")
        await call.outcome()


async def test_refused_resumption_is_raised_after_what_is_buffered(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.message(1)
            await peer.cut()
            peer = await broker.welcome()
            await peer.error(await peer.expect("subscribe"), "forbidden")
            assert (await subscription.receive()).seq == 1
            with pytest.raises(tercet.RefusedError, match="forbidden"):
                await subscription.receive()
        assert client.connected


async def test_resumption_that_is_refused_for_now_is_asked_again(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """Many come back at once after a restart, and the broker limits their rate."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.cut()
            peer = await broker.welcome()
            start = trio.current_time()
            await peer.error(await peer.expect("subscribe"), "rate_limited", 2.5)
            await peer.subscribed("a/x", seq=0)
            assert trio.current_time() == start + 2.5
            await peer.message(1)
            assert await drain(subscription) == ["live", 1]  # of two marks in a row the later one


async def test_left_while_it_waits_to_be_asked_again(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x"):
            await peer.cut()
            peer = await broker.welcome()
            await peer.error(await peer.expect("subscribe"), "rate_limited", 2.5)
        await peer.expect_silence(5)


async def test_full_buffer_steps_back_and_catches_up_from_the_log(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    """It waits for the application for 5 s, and then goes on without this subscription."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=4) as subscription:
            for seq in range(1, 8):
                await peer.message(seq)
            await peer.expect("unsubscribe", sub=2)
            await peer.message(8)
            assert subscription.buffered == 4
            assert [(await subscription.receive()).seq for _ in range(1)] == [1]
            await peer.expect_silence()
            assert (await subscription.receive()).seq == 2  # now half of it is free
            request = await peer.expect("subscribe", since={"epoch": "e1", "seq": 4})
            sub = request["id"]
            await peer.send({"op": "subscribed", "id": sub, "live": False, "epoch": "e1", "seq": 8, "recovered": True})
            for seq in (5, 6):
                await peer.message(seq, sub=sub)
            await trio.sleep(5.1)  # it is patient for 5 s
            assert subscription.buffered == 4
            await peer.message(7, sub=sub)
            await peer.expect("unsubscribe", sub=sub)
            await peer.message(8, sub=sub)
            seen = [(await subscription.receive()).seq for _ in range(4)]
            assert seen == [3, 4, 5, 6]
            request = await peer.expect("subscribe", since={"epoch": "e1", "seq": 6})
            sub = request["id"]
            await peer.send({"op": "subscribed", "id": sub, "live": False, "epoch": "e1", "seq": 8, "recovered": True})
            for seq in (7, 8):
                await peer.message(seq, sub=sub)
            await peer.send({"op": "live", "sub": sub, "seq": 8})
            await peer.message(9)
            assert await drain(subscription) == [7, 8, "live", 9]
            assert subscription.gaps == 0


async def test_broker_waits_for_an_application_that_is_behind(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """With nothing asked of the broker, reading stops at half a buffer and goes on when that is read: no step back."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=4) as subscription:
            for seq in range(1, 9):
                await peer.message(seq)
            assert subscription.buffered == 3
            start = trio.current_time()
            assert [(await subscription.receive()).seq for _ in range(8)] == list(range(1, 9))
            assert trio.current_time() == start
            await peer.expect_silence()


async def test_answer_that_is_wanted_is_not_waited_for(
    broker: ScriptedBroker, nursery: trio.Nursery, beside: Beside
) -> None:
    """Whoever asks something ends the patience with an application that is behind."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=4):
            for seq in range(1, 4):
                await peer.message(seq)
            start = trio.current_time()
            call = await beside(client.publish, "a/x", 1)
            request = await peer.expect("publish")
            await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": 4})
            await call.outcome()
            assert trio.current_time() == start


async def test_stepped_back_over_a_reconnection(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """It is not asked for before there is room; then over whatever connection there is."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=2) as subscription:
            for seq in range(1, 5):
                await peer.message(seq)
            await peer.cut()
            peer = await broker.welcome()
            await peer.expect_silence()
            await peer.cut()
            assert (await subscription.receive()).seq == 1
            peer = await broker.welcome()
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 2})


async def test_buffer_is_bounded_in_bytes(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """8 MiB; a single message is taken whatever its size."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            await peer.message(1, data="x" * 9 * 2**20)
            assert subscription.buffered == 1
            await peer.message(2)
            await peer.expect("unsubscribe", sub=2)
            assert (await subscription.receive()).seq == 1
            await peer.expect("subscribe", since={"epoch": "e1", "seq": 1})


async def test_application_may_publish_to_itself_without_a_deadlock(
    broker: ScriptedBroker, nursery: trio.Nursery, beside: Beside
) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=1) as subscription:
            for seq in range(1, 5):
                await peer.message(seq)
            await peer.expect("unsubscribe")
            call = await beside(client.publish, "a/x", 1)
            request = await peer.expect("publish")
            await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": 5})
            await call.outcome()
            assert subscription.buffered == 1


async def test_spanning_filter_drops_what_does_not_fit_and_says_so(
    broker: ScriptedBroker, nursery: trio.Nursery
) -> None:
    async def accept() -> None:
        request = await peer.expect("subscribe")
        await peer.send({"op": "subscribed", "id": request["id"], "live": True})

    async with broker.session() as (client, peer):
        nursery.start_soon(accept)
        async with client.subscribe("#", buffer=2) as subscription:
            for seq in range(1, 6):
                await peer.message(seq)
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "after": 5, "through": 7, "reason": "overflow"}
            await peer.send(gap | {"dropped": 2})
            await trio.sleep(5.1)  # it is patient for 5 s
            assert await drain(subscription) == [
                "live", 1, 2, Gap(None, None, None, None, 5, tercet.GapReason.OVERFLOW)
            ]  # fmt: skip
            await peer.message(8)
            await peer.message(9)
            await peer.send(gap)
            await peer.send(gap | {"dropped": 3})
            await trio.sleep(5.1)
            assert await drain(subscription) == [
                8, 9, Gap(None, None, None, None, None, tercet.GapReason.OVERFLOW)
            ]  # fmt: skip
            assert str(Gap(None, None, None, None, 5, tercet.GapReason.OVERFLOW)).endswith("namespaces, 5 dropped")


async def test_endless_gaps_do_not_fill_the_memory(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x", buffer=1) as subscription:
            gap = {"op": "gap", "namespace": "a", "epoch": "e1", "reason": "overflow"}
            for n in range(100):
                await peer.send(gap | {"after": n, "through": n + 1})
            await peer.expect("unsubscribe")
            assert len(await drain(subscription)) < 30
            await peer.expect("subscribe")


async def test_statistics(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x"):
            await peer.message(1)
            await peer.message(1)
            assert client.statistics() == tercet.Statistics(
                connected=True,
                connections=1,
                subscriptions=1,
                received=2,
                buffered=1,
                gaps=0,
                published=0,
                outstanding=0,
                resent=0,
                queued=0,
            )

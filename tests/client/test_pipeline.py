"""Publishing in bulk."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Beside, Peer, ScriptedBroker


async def serve(peer: Peer) -> None:
    seq = 0
    while True:
        request = await peer.receive()
        seq += 1
        await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": seq})


async def test_pipeline_publishes_everything_in_order(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        received: list[int] = []

        async def answer() -> None:
            while True:
                request = await peer.expect("publish")
                received.append(request["data"])
                await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": len(received)})

        nursery.start_soon(answer)
        async with client.pipeline(window=10) as out:
            for n in range(200):
                await out.publish("a/x", n)
                assert client.statistics().outstanding <= 10
        assert out.published == 200
        assert received == list(range(200))


async def test_publish_waits_while_the_window_is_full(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer), client.pipeline(window=2) as out:
        await out.publish("a/x", 1)
        await out.publish("a/x", 2)
        call = await beside(out.publish, "a/x", 3)
        assert not call.done.is_set()
        for seq in (1, 2, 3):
            request = await peer.expect("publish")
            await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": seq})
        assert call.done.is_set()


async def test_first_failure_is_raised_at_the_next_publish(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        with pytest.raises(tercet.RefusedError, match="forbidden"):  # noqa: PT012 - the block is what raises
            async with client.pipeline() as out:
                await out.publish("a/x", 1)
                await out.publish("a/x", 2)
                await peer.error(await peer.expect("publish"), "forbidden")
                await peer.error(await peer.expect("publish"), "internal")
                await out.publish("a/x", 3)
        await peer.expect_silence()


async def test_first_failure_is_raised_at_the_end(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):

        async def bulk() -> None:
            async with client.pipeline() as out:
                await out.publish("a/x", 1)
                await out.publish("a/x", 2)

        call = await beside(bulk)
        await peer.error(await peer.expect("publish"), "forbidden")
        assert not call.done.is_set()  # the other one's outcome is awaited
        await peer.expect("publish")
        await peer.send({"op": "published", "id": 3, "epoch": "e1", "seq": 1})
        with pytest.raises(tercet.RefusedError):
            await call.outcome()


async def test_leaving_by_an_exception_forgets_what_is_in_flight(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
            async with client.pipeline() as out:
                await out.publish("a/x", 1)
                raise KeyError
        assert client.statistics().outstanding == 0
        await peer.cut()
        await (await broker.welcome()).expect_silence()
        with pytest.raises(tercet.ClosedError):
            await out.publish("a/x", 2)


@pytest.mark.parametrize("pending", [1, 8])
async def test_cancelled_while_waiting_gives_its_room_back(
    broker: ScriptedBroker, beside: Beside, nursery: trio.Nursery, pending: int
) -> None:
    """Whether it waits for the window's room or for the client's."""
    async with broker.session(pending=pending) as (client, peer):
        async with client.pipeline(window=1 if pending > 1 else 5) as out:
            await out.publish("a/x", 1)
            call = await beside(out.publish, "a/x", 2)
            call.scope.cancel()
            await call.done.wait()
            nursery.start_soon(serve, peer)
            await out.publish("a/x", 3)
        assert out.published == 2


async def test_pipeline_survives_a_reconnection(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        async with client.pipeline() as out:
            for n in range(5):
                await out.publish("a/x", n)
            await wait_all_tasks_blocked()
            await peer.cut()
            peer = await broker.welcome()
            for n in range(5):
                request = await peer.expect("publish", data=n)
                await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": n + 1})
        assert out.published == 5


async def test_pipeline_raises_when_the_client_is_left(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, _):

        async def bulk() -> None:
            async with client.pipeline(window=1) as out:
                while True:
                    await out.publish("a/x", 1)

        call = await beside(bulk)
    with pytest.raises(tercet.ClosedClientError):
        await call.outcome()


async def test_window_is_one_or_more(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, _):
        with pytest.raises(ValueError, match="window"):
            client.pipeline(0)


async def test_long_bulk_lets_other_tasks_run(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer):
        ran, stop = 0, False

        async def other() -> None:
            nonlocal ran
            while not stop:
                ran += 1
                await trio.lowlevel.checkpoint()

        nursery.start_soon(other)
        async with client.pipeline(window=1000) as out:
            before = ran
            for n in range(256):
                await out.publish("a/x", n)
            assert ran >= before + 3
            stop = True
            nursery.start_soon(serve, peer)


async def test_bulk_without_keys(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    async with broker.session() as (client, peer), client.pipeline(keyed=False) as out:
        await out.publish("a/x", 1)
        await out.publish("a/x", 2, key="k" * 16)
        assert "key" not in await peer.receive()
        assert (await peer.receive())["key"] == "k" * 16
        await peer.send({"op": "published", "id": 2, "epoch": "e1", "seq": 1})
        await peer.send({"op": "published", "id": 3, "epoch": "e1", "seq": 2})


async def test_cancelled_at_the_end_waits_for_nothing(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, _):
        with trio.move_on_after(1) as scope:
            async with client.pipeline() as out:
                await out.publish("a/x", 1)
        assert scope.cancelled_caught
        assert trio.current_time() == 1
        assert client.statistics().outstanding == 0

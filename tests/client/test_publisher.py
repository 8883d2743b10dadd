"""Publishing: outcomes, resending, order, bounds, cancellation."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Beside, Peer, ScriptedBroker


async def acknowledge(peer: Peer, seq: int, **more: object) -> dict[str, object]:
    request = await peer.expect("publish")
    await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": seq, **more})
    return request


async def test_publish_returns_the_position(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", {"n": 1})
        request = await acknowledge(peer, 5)
        assert await call.outcome() == tercet.Published(tercet.Position("e1", 5), duplicate=False)
        assert request["data"] == {"n": 1}
        assert len(str(request["key"])) == 32
        assert "retain" not in request
        statistics = client.statistics()
        assert (statistics.published, statistics.outstanding) == (1, 0)


async def test_options_travel(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", None, retain=True, echo=False, key="k" * 16)
        request = await acknowledge(peer, 5, duplicate=True)
        assert (request["retain"], request["echo"], request["key"]) == (True, False, "k" * 16)
        assert (await call.outcome()).duplicate


async def test_raw_data_is_passed_on_byte_for_byte(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        await beside(client.publish, "a/x", tercet.Raw(b'{"b":1.50,"a":[1 ]}'))
        assert '"data":{"b":1.50,"a":[1 ]}' in await peer.websocket.get_message()


async def test_data_without_a_json_form_is_the_callers_mistake(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            await client.publish("a/x", object())
        with pytest.raises(ValueError, match="16 to 64"):
            await client.publish("a/x", 1, key="short")
        with pytest.raises(ValueError, match="surrogates"):
            await client.publish("a/\ud800", 1)
        await peer.expect_silence()
        assert client.statistics().outstanding == 0


async def test_refusal_is_raised(broker: ScriptedBroker, beside: Beside) -> None:
    """E-002, E-004: with retry_after, and whatever the code."""
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1)
        await peer.error(await peer.expect("publish"), "brand_new", 2.5)
        with pytest.raises(tercet.RefusedError, match="brand_new: no") as caught:
            await call.outcome()
        assert (caught.value.code, caught.value.message, caught.value.retry_after) == ("brand_new", "no", 2.5)


async def test_publish_waits_for_a_connection(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        await peer.cut()
        assert not client.connected
        call = await beside(client.publish, "a/x", 1)
        peer = await broker.welcome()
        await acknowledge(peer, 1)
        await call.outcome()
        assert client.statistics().resent == 0


async def test_in_flight_is_sent_again_in_order_before_newer(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        calls = [await beside(client.publish, "a/x", n) for n in range(3)]
        first = [await peer.receive() for _ in range(3)]
        await peer.send({"op": "published", "id": first[1]["id"], "epoch": "e1", "seq": 2})
        await peer.cut()
        calls.append(await beside(client.publish, "a/x", 3))
        peer = await broker.welcome()
        again = [await acknowledge(peer, seq) for seq in (1, 3, 4)]
        assert again[:2] == [first[0], first[2]]  # the same keys, the same everything
        assert again[2]["data"] == 3
        assert [(await call.outcome()).position.seq for call in calls] == [1, 2, 3, 4]
        assert client.statistics().resent == 2


async def test_unavailable_while_draining_is_sent_again(broker: ScriptedBroker, beside: Beside) -> None:
    """D-002."""
    async with broker.session() as (client, peer):
        await peer.send({"op": "drain", "retry_after": 3.0})
        call = await beside(client.publish, "a/x", 1)
        await peer.error(await peer.expect("publish"), "unavailable", 3.0)
        assert not call.done.is_set()
        await peer.close(1012)
        await acknowledge(await broker.welcome(), 9)
        assert (await call.outcome()).position.seq == 9


async def test_unavailable_without_a_drain_is_raised(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1)
        await peer.error(await peer.expect("publish"), "unavailable", 1.0)
        with pytest.raises(tercet.RefusedError):
            await call.outcome()


async def test_outcome_is_unknown_at_exactly_key_seconds(broker: ScriptedBroker, beside: Beside) -> None:
    """P-013: counted from the first sending, while there is no connection."""
    async with broker.session() as (client, peer):
        await trio.sleep(5)
        call = await beside(client.publish, "a/x", 1, key="k" * 16)
        await peer.expect("publish")
        await trio.sleep(20)
        broker.refusals = 10**9
        await peer.cut()
        never_sent = await beside(client.publish, "a/x", 2)
        with pytest.raises(tercet.OutcomeUnknownError) as caught:
            await call.outcome()
        assert trio.current_time() == 5 + 300
        assert (caught.value.topic, caught.value.key) == ("a/x", "k" * 16)
        broker.refusals = 0
        peer = await broker.welcome()
        assert (await acknowledge(peer, 1))["data"] == 2  # what was never sent may wait for ever
        await never_sent.outcome()


async def test_old_publish_is_not_repeated_after_a_long_connection(broker: ScriptedBroker, beside: Beside) -> None:
    """P-013: over the connection it waits on; past it, it is not sent again."""
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1)
        for _ in range(31):
            await trio.sleep(10)
            await peer.send({"op": "pong"})
        assert not call.done.is_set()
        await peer.cut()
        with pytest.raises(tercet.OutcomeUnknownError):
            await call.outcome()
        assert trio.current_time() == 310
        await (await broker.welcome()).expect_silence()


async def test_cancelled_publish_is_forgotten(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1)
        request = await peer.expect("publish")
        call.scope.cancel()
        await call.done.wait()
        assert client.statistics().outstanding == 0
        await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": 1})  # ignored
        await peer.cut()
        await (await broker.welcome()).expect_silence()


async def test_further_publishes_wait_for_room_in_order(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session(pending=2) as (client, peer):
        calls = [await beside(client.publish, "a/x", n) for n in range(5)]
        assert client.statistics().outstanding == 2
        calls[3].scope.cancel()
        assert [(await acknowledge(peer, n + 1))["data"] for n in range(4)] == [0, 1, 2, 4]
        for call in calls:
            await call.outcome()


async def test_what_would_end_the_connection_is_refused_here(broker: ScriptedBroker) -> None:
    """E-010: a request over twice the limit would make the broker close with 1009, for good."""
    async with broker.session() as (client, peer):
        with pytest.raises(tercet.RefusedError, match="too_large"):
            await client.publish("a/x", "x" * 524288)
        await peer.expect_silence()


async def test_leaving_the_client_ends_publishes_of_other_tasks(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session(pending=1) as (client, _):
        flying = await beside(client.publish, "a/x", 1)
        waiting = await beside(client.publish, "a/x", 2)
    for call in (flying, waiting):
        with pytest.raises(tercet.ClosedClientError):
            await call.outcome()
    with pytest.raises(tercet.ClosedClientError):
        await client.publish("a/x", 3)


async def test_answers_to_nobody_are_ignored(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        await peer.send(
            {"op": "published", "id": 999, "epoch": "e1", "seq": 1},
            {"op": "published", "epoch": "e1", "seq": 1},
            {"op": "error", "id": 999, "code": "x", "message": "", "retry_after": None},
        )
        assert client.connected


async def test_publishes_of_one_pass_leave_in_one_write(broker: ScriptedBroker) -> None:
    async with broker.session() as (client, peer):
        async with trio.open_nursery() as nursery:
            for n in range(100):
                nursery.start_soon(client.publish, "a/x", n)
            await wait_all_tasks_blocked()
            for n in range(100):
                await acknowledge(peer, n + 1)
        assert client.statistics().published == 100


async def test_without_a_key_it_is_never_sent_twice(broker: ScriptedBroker, beside: Beside) -> None:
    """P-013: unknown in the moment the connection breaks; what was not sent yet may wait."""
    async with broker.session() as (client, peer):
        call = await beside(client.publish, "a/x", 1, keyed=False)
        assert "key" not in await peer.expect("publish")
        await peer.cut()
        with pytest.raises(tercet.OutcomeUnknownError, match="without a key"):
            await call.outcome()
        call = await beside(client.publish, "a/x", 2, keyed=False)
        await acknowledge(await broker.welcome(), 1)
        await call.outcome()


async def test_without_a_key_but_refused_by_a_drain_it_is_sent_again(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        await peer.send({"op": "drain", "retry_after": 1.0})
        call = await beside(client.publish, "a/x", 1, keyed=False)
        await peer.error(await peer.expect("publish"), "unavailable", 1.0)
        await peer.close(1012)
        await acknowledge(await broker.welcome(), 1)
        await call.outcome()

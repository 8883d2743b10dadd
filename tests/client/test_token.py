"""The client's token: renewed before it ends, asked for again after that, and not shown to everybody."""

# ruff: noqa: PLW2901 - `peer` is the broker's end, whichever connection that is of

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Peer, ScriptedBroker


def tokens() -> Callable[[], str]:
    given = iter(f"t{number}" for number in range(1, 100))
    return lambda: next(given)


async def keep_alive(peer: Peer) -> None:
    while True:
        await trio.sleep(20)
        await peer.send({"op": "pong"})


async def test_token_is_renewed_before_it_ends(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """A-009: each time at 60 to 80 % of what is left."""
    async with broker.session(token=tokens(), expires_in=100.0) as (client, peer):
        nursery.start_soon(keep_alive, peer)
        assert peer.hello["token"] == "t1"
        for number in (2, 3, 4):
            began = trio.current_time()
            request = await peer.expect("authenticate", token=f"t{number}")
            assert 60 <= trio.current_time() - began <= 80
            await peer.send({"op": "authenticated", "id": request["id"], "user": "u", "expires_in": 100.0})
        assert client.statistics().connections == 1
        nursery.cancel_scope.cancel()


async def test_token_is_in_no_repr(broker: ScriptedBroker, canary: str) -> None:
    async with broker.session(token=lambda: canary) as (client, peer):
        assert peer.hello["token"] == canary
        assert canary not in repr(client)
    async with broker.session(token=canary) as (client, _):
        assert canary not in repr(client)


async def test_renewed_token_is_that_of_the_next_connection(broker: ScriptedBroker) -> None:
    async with broker.session(token=tokens(), expires_in=10.0) as (_, peer):
        request = await peer.expect("authenticate", token="t2")
        await peer.send({"op": "authenticated", "id": request["id"], "user": "u", "expires_in": 1000.0})
        await peer.cut()
        peer = await broker.welcome()
        assert peer.hello["token"] == "t2"


async def test_token_that_has_ended_is_not_sent_again(broker: ScriptedBroker) -> None:
    async with broker.session(token=tokens(), expires_in=10.0) as (_, peer):
        broker.refusals = 10**9
        await peer.cut()
        await trio.sleep(11)
        broker.refusals = 0
        peer = await broker.welcome()
        assert peer.hello["token"] == "t2"


async def test_refused_renewal_goes_the_way_of_3000(broker: ScriptedBroker) -> None:
    async with broker.session(token=tokens(), expires_in=10.0) as (client, peer):
        request = await peer.expect("authenticate", token="t2")
        await peer.error(request, "unauthorized")
        await peer.close(3000, "unauthorized")
        peer = await broker.welcome()
        assert peer.hello["token"] == "t3"
        await peer.close(3000, "unauthorized")
        await trio.sleep(60)
        with pytest.raises(tercet.BrokenClientError, match="unauthorized"):
            await client.ping()


async def test_token_that_cannot_be_had_is_asked_for_again(broker: ScriptedBroker) -> None:
    asked: list[float] = []

    def token() -> str:
        asked.append(trio.current_time())
        if len(asked) in {2, 3}:
            raise OSError("the vault is closed")
        return f"t{len(asked)}"

    async with broker.session(token=token, expires_in=20.0) as (_, peer):
        await peer.expect("authenticate", token="t4")
        assert trio.current_time() < 20


async def test_single_token_is_not_renewed(broker: ScriptedBroker) -> None:
    async with broker.session(token="t", expires_in=10.0) as (_, peer):
        await peer.expect_silence(20)


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("ws://broker.example", True),
        ("ws://192.168.1.7:8080", True),
        ("ws://localhost.example", True),
        ("ws://127.0.0.1.nip.io", True),
        ("ws://127.0.0.1:1", False),
        ("ws://[::1]:1", False),
        ("ws://localhost:1", False),
        ("wss://127.0.0.1:1", False),
        ("ws+unix:///nonexistent.sock", False),
    ],
)
async def test_token_goes_over_no_open_line(url: str, *, is_refused: bool) -> None:
    """A-005, from the client's side."""
    expected = ValueError if is_refused else tercet.CannotConnectError
    with pytest.raises(expected):
        async with tercet.connect(url, token="t"):
            pytest.fail("connected")


async def test_token_goes_over_an_open_line_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_line(*_: object, **__: object) -> None:
        raise OSError("no such line")

    monkeypatch.setattr(trio, "open_tcp_stream", no_line)
    with pytest.raises(tercet.CannotConnectError):
        async with tercet.connect("ws://broker.example", token="t", insecure=True):
            pytest.fail("connected")

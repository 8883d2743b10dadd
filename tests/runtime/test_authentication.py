"""Tokens over whole connections: the handshake, the wait for a verdict, expiry, and what a reload does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import argon2
import jwt
import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from tercet_broker.core import Action, Identity, Moment, Rule
from tercet_broker.runtime import AuthSettings, Daemon, DaemonSettings, JwtSettings, ListenerSettings, TokenSettings
from tercet_broker.runtime.offload import in_turn
from tercet_broker.runtime.settings import ConnectionSettings, RateSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.conftest import Logs, Serve

T = TypeVar("T")

WALL = 1_800_000_000
ALL = tuple(Action)
SECRET = "s" * 32


class FakeClock:
    """Trio's clock, and a wall clock that was at WALL when this was made."""

    def __init__(self) -> None:
        self.began = trio.current_time()

    def moment(self) -> Moment:
        now = trio.current_time()
        return Moment(now, int((WALL + now - self.began) * 1000))


async def slowly(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Take a second for everything that runs beside."""
    async with limiter:
        await trio.sleep(1)
        return function()


def token_settings(secret: str, id_: str = "feed", **more: Any) -> TokenSettings:
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return TokenSettings(id_, hasher.hash(secret), more.pop("user", id_), **more)


@pytest.fixture
def auth(canary: str, tmp_path: Path) -> AuthSettings:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return AuthSettings(
        token=(token_settings(canary), token_settings(canary, "other")),
        jwt=(JwtSettings("me", "tercet", "HS256", key=path),),
    )


def settings(auth: AuthSettings, *rules: Rule) -> DaemonSettings:
    return DaemonSettings(auth=auth, rules=rules)


def options(offload: Any = in_turn) -> dict[str, Any]:
    return {"offload": offload, "clock": FakeClock()}


def make_jwt(**changes: object) -> str:
    return jwt.encode({"iss": "me", "aud": "tercet", "sub": "feed", "exp": WALL + 60, **changes}, SECRET, "HS256")


@pytest.mark.parametrize("lane", [True, False])
async def test_requests_behind_a_connect_wait_for_the_verdict(
    serve: Serve, auth: AuthSettings, autojump_clock: MockClock, canary: str, *, lane: bool
) -> None:
    """C-021, R-004: they may be sent at once, and are served in order when it is known who asks."""
    async with serve(settings(auth), lane=lane, **options(slowly)) as harness:
        peer = await harness.peer()
        began = trio.current_time()
        await peer.say(op="connect", id=1, token=f"feed.{canary}")
        for number in range(2, 20):
            await peer.say(op="publish", id=number, topic="a/x", data=number)
        await peer.expect("connected", id=1, user="feed")
        assert trio.current_time() == began + 1
        for number in range(2, 20):
            await peer.expect("published", id=number, seq=number - 1)
        # The next one was verified already.
        await harness.client(token=f"feed.{canary}")
        assert trio.current_time() == began + 1


async def test_nobody_waits_for_anothers_token(
    serve: Serve, auth: AuthSettings, autojump_clock: MockClock, canary: str
) -> None:
    async with serve(settings(evolve(auth, required=False)), **options(slowly)) as harness:
        slow, quick = await harness.peer(), await harness.client()
        began = trio.current_time()
        await slow.say(op="connect", id=1, token=f"feed.{canary}")
        await quick.say(op="ping", id=5)
        await quick.expect("pong", id=5)
        assert trio.current_time() == began


async def test_peer_that_goes_away_while_its_token_is_verified(
    serve: Serve, auth: AuthSettings, autojump_clock: MockClock, canary: str
) -> None:
    async with serve(settings(auth), **options(slowly)) as harness:
        peer = await harness.peer()
        await peer.say(op="connect", id=1, token=f"feed.{canary}")
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(peer.stream)
        await trio.sleep(5)
        assert harness.daemon.statistics().sessions == ()
        harness.assert_balanced()


@pytest.mark.parametrize("lane", [True, False])
async def test_wrong_token(serve: Serve, auth: AuthSettings, canary: str, *, lane: bool) -> None:
    """A-002."""
    async with serve(settings(auth), lane=lane, **options()) as harness:
        peer = await harness.peer()
        await peer.say(op="connect", id=1, token=f"feed.wrong-{canary}")
        error = await peer.expect("error", id=1, code="unauthorized")
        assert canary not in error["message"]
        assert await peer.closed() == 3000


async def test_wrong_tokens_are_charged_to_their_address(
    serve: Serve, auth: AuthSettings, canary: str, logs: list[Any]
) -> None:
    """A-031: after so many of them even the right one is not looked at, on a new connection or with `authenticate`.

    Nor does each have a line of the log.
    """
    limited = evolve(settings(auth), connections=ConnectionSettings(failed_tokens=2))
    async with serve(limited, transport="ws", **options()) as harness:
        inside = await harness.client(token=f"feed.{canary}")
        for _ in range(2):
            peer = await harness.peer()
            await peer.say(op="connect", id=1, token=f"feed.wrong-{canary}")
            await peer.expect("error", code="unauthorized")
            assert await peer.closed() == 3000
        peer = await harness.peer()
        await peer.say(op="connect", id=1, token=f"feed.{canary}")
        assert (await peer.expect("error", id=1, code="rate_limited"))["retry_after"] > 0
        assert await peer.closed() == 1013
        await inside.say(op="authenticate", id=2, token=f"feed.{canary}")
        await inside.expect("error", id=2, code="rate_limited")
        await inside.ask(op="ping", id=3)
        assert harness.daemon.statistics().tokens_refused == 2
    lines = [entry["log_level"] for entry in logs if entry["event"] == "not authenticated"]
    assert lines == ["info", "info", "debug", "debug"]


async def test_authenticate_is_a_request_like_others_for_the_rates(
    serve: Serve, auth: AuthSettings, autojump_clock: MockClock, canary: str, tools: Any
) -> None:
    slow = evolve(settings(auth), rates=RateSettings(requests=10, requests_burst=20))
    async with serve(slow, **options()) as harness:
        client = await harness.client(token=f"feed.{canary}")
        began = trio.current_time()
        token = f"feed.{canary}"
        await client.raw(b"".join(tools.say(op="authenticate", id=n, token=token) for n in range(1, 30)))
        for n in range(1, 30):
            await client.expect("authenticated", id=n)
        assert trio.current_time() - began == pytest.approx(1.0)


async def test_connect_timeout_holds_while_a_token_is_verified(
    serve: Serve, auth: AuthSettings, autojump_clock: MockClock, canary: str
) -> None:
    """R-002: one deadline until somebody is known."""

    async def never(_: object, __: object) -> Any:
        await trio.sleep_forever()

    async with serve(settings(auth), **options(never)) as harness:
        peer = await harness.peer()
        await peer.say(op="connect", id=1, token=f"feed.{canary}")
        assert await peer.closed() == 3008


@pytest.mark.parametrize("transport", ["ws", "wss", "unix"])
async def test_token_over_sockets(serve: Serve, auth: AuthSettings, canary: str, transport: str) -> None:
    """In earnest: threads, sockets, TLS; A-003, A-005."""
    rule = Rule(("user:feed",), ALL, ("inbox/{user}/#",))
    async with serve(settings(auth, rule), transport=transport) as harness:
        peer = await harness.client(token=f"feed.{canary}")
        await peer.say(op="publish", id=5, topic="inbox/feed/x", data=1)
        await peer.expect("published", id=5)
        await peer.say(op="publish", id=6, topic="inbox/other/x", data=1)
        await peer.expect("error", id=6, code="forbidden")


async def test_token_on_a_listener_that_others_can_listen_in_on(auth: AuthSettings, canary: str, tools: Any) -> None:
    """A-005: not on loopback, no TLS, and not said to be insecure."""
    for insecure in (False, True):
        listener = ListenerSettings("0.0.0.0:0", insecure=insecure)
        daemon = Daemon(DaemonSettings((listener,), auth=auth))
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(daemon.run)
            stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            peer = tools.Peer(stream)
            await peer.shake_hands()
            await peer.say(op="connect", id=1, token=f"feed.{canary}")
            if insecure:
                await peer.expect("connected", user="feed")
                await trio.aclose_forcefully(stream)
            else:
                assert "wss://" in (await peer.expect("error", id=1, code="unauthorized"))["message"]
                assert await peer.closed() == 3000
            nursery.cancel_scope.cancel()


# The handshake


async def shake_hands(harness: Any, tools: Any, *lines: str, target: str = "/") -> tuple[Any, bytes]:
    peer = await harness.raw()
    await peer.raw(tools.head(target, *lines))
    data = b""
    while b"\r\n\r\n" not in data:
        data += await peer.stream.receive_some(65536)
    return peer, data


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_token_of_the_handshake(serve: Serve, auth: AuthSettings, canary: str, tools: Any, scheme: str) -> None:
    """A-003."""
    async with serve(settings(auth), **options()) as harness:
        peer, response = await shake_hands(harness, tools, f"Authorization: {scheme} feed.{canary}")
        assert response.startswith(b"HTTP/1.1 101")
        await peer.raw(tools.say(op="connect", id=1))
        data = await peer.stream.receive_some(65536)
        connected = json.loads(data[data.index(b"{") :])
        assert (connected["op"], connected["user"]) == ("connected", "feed")


@pytest.mark.parametrize(
    "lines",
    [
        ("Authorization: Bearer {0}", "Authorization: Bearer {0}"),
        ("Authorization: Bearer {0}", "authorization: Basic {0}"),
        ("Authorization: Bearer",),
        ("Authorization: Bearer {0} {0}",),
        ("Authorization: Bearer {0},{0}",),
        ("Authorization: Bearer {0}\x01",),
        ("Authorization: Bearer {0}ü",),
        ("Authorization : Bearer {0}",),
    ],
)
async def test_authorization_that_is_malformed(
    serve: Serve, auth: AuthSettings, canary: str, tools: Any, logs: Logs, lines: tuple[str, ...]
) -> None:
    """A-003: 400, and what was wrong is told without the token, to the peer and to the log."""
    async with serve(settings(auth), **options()) as harness:
        _, response = await shake_hands(harness, tools, *(line.format(f"feed.{canary}") for line in lines))
        assert response.startswith(b"HTTP/1.1 4")
        assert canary.encode() not in response
    assert any(entry["event"] == "handshake refused" for entry in logs)


async def test_authorization_of_another_scheme_is_not_for_us(
    serve: Serve, auth: AuthSettings, canary: str, tools: Any
) -> None:
    async with serve(settings(auth), **options()) as harness:
        _, response = await shake_hands(harness, tools, f"Authorization: Basic {canary}")
        assert response.startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "query",
    [
        "?token={0}",
        "?a=b&access_token={0}",
        "?TOKEN={0}",
        "?%74oken={0}",
        "?token",
        "?authorization=Bearer+{0}",
        "?x=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.{0}",
        "?jwt=",
    ],
)
async def test_token_in_the_url(
    serve: Serve, auth: AuthSettings, canary: str, tools: Any, logs: Logs, query: str
) -> None:
    """A-004: whether there is authentication or not."""
    for one in (settings(auth), DaemonSettings()):
        async with serve(one, **options()) as harness:
            _, response = await shake_hands(harness, tools, target="/" + query.format(canary))
            assert response.startswith(b"HTTP/1.1 400")
            assert canary.encode() not in response


@pytest.mark.parametrize("query", ["?", "?x=1", "?tokens=1", "?name=token", "?v=1.2.3"])
async def test_other_queries_mean_nothing(serve: Serve, tools: Any, query: str) -> None:
    async with serve() as harness:
        _, response = await shake_hands(harness, tools, target=f"/{query}")
        assert response.startswith(b"HTTP/1.1 101")


# Expiry, renewal, reload


async def test_expiry_and_renewal(serve: Serve, auth: AuthSettings, autojump_clock: MockClock) -> None:
    """A-006, A-008: live for as long as tokens are renewed, and for the grace after that."""
    async with serve(settings(auth), **options()) as harness:
        peer = await harness.peer()
        connected = await peer.connect(token=make_jwt(), heartbeat=True)
        assert connected["expires_in"] == 60.0
        await trio.sleep(20)
        await peer.say(op="authenticate", id=2, token=make_jwt(exp=WALL + 90))
        await peer.expect("authenticated", id=2, user="feed", expires_in=70.0)
        await trio.sleep(10)
        while True:
            message = await peer.hear()
            if message["op"] != "ping":
                break
            await peer.say(op="pong")
        assert (message["op"], message["code"]) == ("error", "unauthorized")
        assert 100 <= trio.current_time() <= 101
        assert await peer.closed() == 3000


async def test_set_access_takes_back_tokens_and_rules(serve: Serve, auth: AuthSettings, canary: str) -> None:
    """A-020, A-021, in one step and without touching the others."""
    everything, less = Rule(("*",), ALL, ("#",)), Rule(("*",), ALL, ("b/#",))
    async with serve(settings(auth, everything), **options()) as harness:
        feed, other = await harness.client(token=f"feed.{canary}"), await harness.client(token=f"other.{canary}")
        await other.say(op="subscribe", id=2, filter="a/#")
        await other.expect("subscribed")
        await other.say(op="subscribe", id=3, filter="b/#")
        await other.expect("subscribed")
        harness.daemon.set_access(evolve(auth, token=auth.token[1:]), (less,))
        await other.expect("unsubscribed", sub=2, code="forbidden")
        await other.say(op="publish", id=4, topic="b/x", data=1)
        await other.expect("message", topic="b/x")
        await feed.expect("error", code="unauthorized")
        assert await feed.closed() == 3000
        peer = await harness.peer()
        await peer.say(op="connect", id=1, token=f"feed.{canary}")
        await peer.expect("error", id=1, code="unauthorized")


@pytest.mark.parametrize("grace", [10.0, 77.0])
async def test_set_access_with_the_same_tokens_keeps_everybody(
    serve: Serve, auth: AuthSettings, grace: float, autojump_clock: MockClock
) -> None:
    """The rules are others, and what else has changed counts for who is in."""
    async with serve(settings(auth), **options()) as harness:
        peer = await harness.client(token=make_jwt(exp=WALL + 60))
        await peer.say(op="subscribe", id=2, filter="a/#")
        await peer.expect("subscribed")
        harness.daemon.set_access(evolve(auth, grace=grace), (Rule(("*",), ALL, ("b/#",)),))
        await peer.expect("unsubscribed", sub=2, code="forbidden")
        (session,) = harness.daemon.broker.sessions
        assert session.lapses_at - trio.current_time() == pytest.approx(60 + grace, abs=1)


async def test_set_access_that_cannot_be_changes_nothing(serve: Serve, auth: AuthSettings, tmp_path: Path) -> None:
    async with serve(settings(auth), **options()) as harness:
        peer = await harness.client(token=make_jwt())
        bad = evolve(auth, jwt=(JwtSettings("me", "tercet", "HS256", key=tmp_path / "absent"),))
        with pytest.raises(OSError, match="absent"):
            harness.daemon.set_access(bad, ())
        with pytest.raises(ValueError, match="restart"):
            harness.daemon.set_access(None, ())
        await peer.say(op="publish", id=4, topic="b/x", data=1)
        await peer.expect("published")


async def test_identity_of_the_wire(serve: Serve, auth: AuthSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listener knows of a peer, by a certificate, is enough."""
    async with serve(settings(auth), **options()) as harness:
        assert harness.listener is not None
        accept = type(harness.listener).accept

        async def accept_known(listener: Any) -> Any:
            wire = await accept(listener)
            wire.identity = Identity("machine", source="certificate")
            return wire

        monkeypatch.setattr(type(harness.listener), "accept", accept_known)
        await harness.peer()  # for the accept that was waiting already
        peer = await harness.peer()
        await peer.say(op="connect", id=1)
        await peer.expect("connected", user="machine")

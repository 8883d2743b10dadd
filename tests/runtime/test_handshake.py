"""From accept to a WebSocket: who is turned away, how, and that it is counted."""

from __future__ import annotations

import re
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from attrs import evolve
from trio.testing import MockClock

from tercet_broker.core import Action, Identity, Rule
from tercet_broker.runtime import (
    AuthSettings,
    Daemon,
    DaemonSettings,
    JwtSettings,
    ListenerSettings,
    TlsSettings,
    open_daemon,
)
from tercet_broker.runtime.admission import Turned
from tercet_broker.runtime.settings import ConnectionSettings, TimeoutSettings
from tercet_protocol import CloseCode

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve

HOST = "127.0.0.1"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@asynccontextmanager
async def listening(
    connections: ConnectionSettings | None = None, **options: Any
) -> AsyncIterator[tuple[Daemon, Callable[..., Any]]]:
    """A daemon with one listener on a socket, and a function that sends bytes there and returns the answer.

    Who sends none gets none, unless he `hears`.
    """
    settings = DaemonSettings(
        listeners=(ListenerSettings(f"{HOST}:0", **options),),
        connections=connections or ConnectionSettings(),
        timeouts=TimeoutSettings(close=0.2),
    )
    daemon = Daemon(settings)
    async with open_daemon(daemon) as urls:
        streams: list[trio.abc.Stream] = []
        port = int(urls[0].rpartition(":")[2])

        async def ask(
            data: bytes, context: ssl.SSLContext | None = None, first: bytes = b"", *, hears: bool = False
        ) -> bytes:
            tcp: trio.abc.Stream = await trio.open_tcp_stream(HOST, port)
            streams.append(tcp)
            await tcp.send_all(first)
            stream = tcp
            if context is not None:
                stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
            with trio.fail_after(5):
                try:
                    await stream.send_all(data)
                    return bytes(await stream.receive_some(65536)) if data or hears else b""
                except trio.BrokenResourceError:
                    return b""

        try:
            yield daemon, ask
        finally:
            for stream in streams:
                await trio.aclose_forcefully(stream)


def request(*lines: str) -> bytes:
    head = [
        "GET / HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode()


def status(response: bytes) -> int:
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", response)
    return int(match[1]) if match else 0


def turned(daemon: Daemon) -> dict[Turned, int]:
    return {why: count for why, count in daemon.admission.statistics().turned_away.items() if count}


async def test_origin_that_is_not_listed_gets_403() -> None:
    async with listening(origins=("https://example.org",)) as (daemon, ask):
        assert status(await ask(request("Origin: https://example.org"))) == 101
        assert status(await ask(request())) == 101
        refused = await ask(request("Origin: https://evil.example"))
        assert status(refused) == 403
        assert b"pages of this Origin may not connect here" in refused
        assert turned(daemon) == {Turned.ORIGIN: 1}


async def test_every_origin_may_where_none_is_listed() -> None:
    async with listening() as (_, ask):
        assert status(await ask(request("Origin: https://any.example"))) == 101


async def test_full_broker_answers_503() -> None:
    async with listening(ConnectionSettings(total=1)) as (daemon, ask):
        assert status(await ask(request())) == 101
        refused = await ask(request())
        assert status(refused) == 503
        assert b"Retry-After: 5\r\n" in refused
        assert status(await ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")) == 200, "who is connected is served"
        assert turned(daemon) == {Turned.TOTAL: 1}


async def test_address_with_too_many_connections_gets_429() -> None:
    async with listening(ConnectionSettings(per_address=1)) as (daemon, ask):
        assert status(await ask(request())) == 101
        refused = await ask(request())
        assert status(refused) == 429
        assert b"Retry-After: 10\r\n" in refused
        assert turned(daemon) == {Turned.ADDRESS: 1}


@pytest.mark.parametrize(
    ("limits", "proxies", "code", "why"),
    [
        (ConnectionSettings(handshakes=4), (), 429, Turned.ADDRESS_HANDSHAKES),
        (ConnectionSettings(handshakes_per_address=2), (), 429, Turned.ADDRESS_HANDSHAKES),
        (ConnectionSettings(handshakes=2), ("127.0.0.0/8",), 503, Turned.HANDSHAKES),
    ],
)
async def test_open_handshakes_beyond_the_limit_are_dropped(
    limits: ConnectionSettings, proxies: tuple[str, ...], code: int, why: Turned
) -> None:
    """At accept, before a byte was read; of a trusted proxy's connections nobody knows then where they come from."""
    async with listening(limits, trusted_proxies=proxies) as (daemon, ask):
        for _ in range(2):
            await ask(b"")
        assert status(await ask(b"", hears=True)) == code
        assert status(await ask(request())) in {code, 0}, "the answer is lost where the request came first"
        assert turned(daemon) == {why: 2}
        assert daemon.admission.handshakes == 2


async def test_open_handshakes_of_peers_without_an_address_count_overall(serve: Serve) -> None:
    settings = DaemonSettings(connections=ConnectionSettings(handshakes=2, handshakes_per_address=1))
    async with serve(settings, transport="unix") as harness:
        for _ in range(2):
            await harness.raw()
        refused = await harness.raw()
        await refused.ended()
        assert status(bytes(refused.received)) == 503
        assert b"Retry-After: 1\r\n" in refused.received
        assert turned(harness.daemon) == {Turned.HANDSHAKES: 1}


async def test_slot_is_free_again_once_its_connection_has_ended(serve: Serve) -> None:
    settings = DaemonSettings(connections=ConnectionSettings(total=1, handshakes=1))
    async with serve(settings) as harness:
        for _ in range(3):
            client = await harness.client()
            await trio.aclose_forcefully(client.stream)
            await trio.testing.wait_all_tasks_blocked()
        statistics = harness.daemon.admission.statistics()
        assert (statistics.connections, statistics.handshakes) == (0, 0)


async def test_one_deadline_from_accept_to_connect(serve: Serve, autojump_clock: MockClock) -> None:
    """Time that the request head took is not given again for `connect`."""
    async with serve(DaemonSettings(timeouts=TimeoutSettings(handshake=8, connect=10))) as harness:
        peer = await harness.raw()
        began = trio.current_time()
        head = request("Sec-WebSocket-Protocol: tercet.v1.json")
        await peer.raw(head[:20])
        await trio.sleep(7)
        await peer.raw(head[20:])
        while b"\r\n\r\n" not in peer.received:
            peer.received += await peer.stream.receive_some(1000)
        assert trio.current_time() - began == 7
        frame = b"".join([await peer.stream.receive_some(1000)])
        assert trio.current_time() - began == 10
        assert int.from_bytes(frame[2:4], "big") == CloseCode.TIMEOUT


# Proxies


async def test_forwarded_for_is_believed_from_listed_networks_alone() -> None:
    limits = ConnectionSettings(per_address=1)
    forwarded = [request(f"X-Forwarded-For: 192.0.2.{number}") for number in (1, 2)]
    async with listening(limits, trusted_proxies=("127.0.0.0/8",)) as (_, ask):
        assert [status(await ask(one)) for one in forwarded] == [101, 101]
        assert status(await ask(forwarded[0])) == 429
    async with listening(limits, trusted_proxies=("10.0.0.0/8",)) as (_, ask):
        assert [status(await ask(one)) for one in forwarded] == [101, 429]


async def test_proxy_may_say_that_the_clients_way_is_not_encrypted() -> None:
    """A-005: then no tokens are taken; a stranger's header says nothing, and no header says nothing either."""
    for trusted, proto, expected in (
        ("127.0.0.1", "http", False),
        ("127.0.0.1", "https", True),
        ("127.0.0.1", None, True),
        ("192.0.2.0/24", "http", True),
    ):
        async with listening(trusted_proxies=(trusted,)) as (daemon, ask):
            await ask(request(*([] if proto is None else [f"X-Forwarded-Proto: {proto}"])))
            assert [session.arrival.is_private for session in daemon.broker.sessions] == [expected]


async def test_shares_of_the_unknown_are_by_address() -> None:
    """Who comes again has no new one; an IPv6 network has one, and a proxy's word counts as for the limits."""
    async with listening(trusted_proxies=("127.0.0.1",)) as (daemon, ask):
        for client in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"):
            await ask(request(f"X-Forwarded-For: {client}"))
        await ask(request())
        owners = [session.owner for session in daemon.broker.sessions]
    site = bytes.fromhex("20010db800000000")
    assert owners == [bytes((192, 0, 2, 1))] * 2 + [site] * 2 + [bytes.fromhex("20010db800000001"), 6]


async def test_ipv6_clients_count_by_their_network() -> None:
    async with listening(ConnectionSettings(per_address=1), trusted_proxies=("127.0.0.1",)) as (_, ask):
        assert status(await ask(request("X-Forwarded-For: 2001:db8::1"))) == 101
        assert status(await ask(request("X-Forwarded-For: 2001:db8::2"))) == 429
        assert status(await ask(request("X-Forwarded-For: 2001:db8:0:1::1"))) == 101


def header(number: int) -> bytes:
    return SIGNATURE + b"\x21\x11" + struct.pack("!H", 12) + bytes((192, 0, 2, number, 127, 0, 0, 1, 0, 80, 0, 80))


async def test_proxy_header_of_a_trusted_proxy_names_the_client(logs: Logs) -> None:
    options: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "proxy_protocol": True}
    async with listening(ConnectionSettings(per_address=1), **options) as (daemon, ask):
        assert status(await ask(header(1) + request())) == 101
        assert status(await ask(b"PROXY TCP4 192.0.2.2 127.0.0.1 4711 80\r\n" + request())) == 101
        assert status(await ask(header(1) + request())) == 429
        assert status(await ask(header(3) + request("X-Forwarded-For: 192.0.2.1"))) == 101
        assert status(await ask(request())) == 400, "a trusted proxy must send one"
        unknown = b"PROXY UNKNOWN\r\n" + request("X-Forwarded-For: 192.0.2.9")
        assert status(await ask(unknown)) == 101
        assert turned(daemon) == {Turned.ADDRESS: 1, Turned.PROXY: 1}
    opened = [entry["peer"] for entry in logs if entry["event"] == "connection opened"]
    assert re.fullmatch(r"192\.0\.2\.2:4711 via 127\.0\.0\.1:\d+", opened[1])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", opened[-1]), "what such a proxy passes on is the client's own word"


@pytest.mark.parametrize(
    "options", [{}, {"proxy_protocol": True, "trusted_proxies": ("10.0.0.0/8",)}, {"trusted_proxies": ("127.0.0.1",)}]
)
@pytest.mark.parametrize("first", [header(1), b"PROXY TCP4 192.0.2.2 127.0.0.1 4711 80\r\n"])
async def test_proxy_header_of_anyone_else_is_refused(options: dict[str, Any], first: bytes) -> None:
    async with listening(**options) as (_, ask):
        assert status(await ask(first + request())) == 400


async def test_proxy_header_comes_ahead_of_tls(tls: TlsSettings, client_context: ssl.SSLContext, logs: Logs) -> None:
    options: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "proxy_protocol": True, "tls": tls}
    async with listening(**options) as (daemon, ask):
        assert status(await ask(request(), client_context, header(9))) == 101
        assert await ask(request(), client_context) == b""
        assert turned(daemon) == {Turned.PROXY: 1}
    assert any(str(entry.get("peer")).startswith("192.0.2.9:80 via ") for entry in logs)


# Mutual TLS


@pytest.fixture(scope="session")
def client_authority() -> trustme.CA:
    return trustme.CA()


def with_certificate(base: trustme.CA, leaf: trustme.LeafCert | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    base.configure_trust(context)
    if leaf is not None:
        leaf.configure_cert(context)
    return context


@pytest.mark.parametrize("mode", ["required", "optional"])
async def test_name_in_the_clients_certificate_is_the_user(
    mode: Any, tls: TlsSettings, authority: trustme.CA, client_authority: trustme.CA, tmp_path: Path
) -> None:
    client_authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mutual = evolve(tls, client_ca=tmp_path / "ca.pem", client_certificates=mode)
    async with listening(tls=mutual, origins=()) as (daemon, ask):
        named = with_certificate(authority, client_authority.issue_cert("ann@example.org"))
        assert status(await ask(request(), named)) == 101
        known = [session.arrival.identity for session in daemon.broker.sessions]
        assert known == [Identity("ann@example.org", source="certificate")]
        stranger = with_certificate(authority, authority.issue_cert("eve@example.org"))
        assert await ask(request(), stranger) == b""
        nobody = await ask(request(), with_certificate(authority, None))
        assert status(nobody) == (0 if mode == "required" else 101)
        unnamed = with_certificate(authority, client_authority.issue_cert("127.0.0.1"))
        refused = await ask(request(), unnamed)
        assert status(refused) == 403
        assert b"neither a subjectAltName" in refused


async def test_why_a_certificate_was_refused_is_logged(
    tls: TlsSettings, authority: trustme.CA, client_authority: trustme.CA, tmp_path: Path, logs: Logs
) -> None:
    """At debug, for whoever sets mutual TLS up: TLS 1.3 lets the client think that all went well."""
    client_authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with listening(tls=evolve(tls, client_ca=tmp_path / "ca.pem"), origins=()) as (_, ask):
        for leaf in (None, authority.issue_cert("eve@example.org")):
            assert await ask(request(), with_certificate(authority, leaf)) == b""
    reasons = [entry["reason"] for entry in logs if entry["event"] == "connection not established"]
    assert [entry["log_level"] for entry in logs if "reason" in entry] == ["debug", "debug"]
    assert "did not return a certificate" in reasons[0]
    assert "certificate verify failed" in reasons[1]


async def test_certificate_is_enough_to_connect(
    tls: TlsSettings, authority: trustme.CA, client_authority: trustme.CA, tmp_path: Path, tools: Any
) -> None:
    """A-001: no token is wanted, though others need one; rules and the limits of one user know the name."""
    client_authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "secret").write_text("s" * 32)
    settings = DaemonSettings(
        listeners=(ListenerSettings(f"{HOST}:0", tls=evolve(tls, client_ca=tmp_path / "ca.pem"), origins=()),),
        connections=ConnectionSettings(per_user=1),
        auth=AuthSettings(jwt=(JwtSettings("me", "tercet", "HS256", key=tmp_path / "secret"),)),
        rules=(Rule(("user:ann@example.org",), (Action.PUBLISH,), ("inbox/#",)),),
    )
    context = with_certificate(authority, client_authority.issue_cert("ann@example.org"))
    daemon = Daemon(settings)
    async with open_daemon(daemon) as urls:
        peers = []
        for _ in range(2):
            tcp = await trio.open_tcp_stream(HOST, int(urls[0].rpartition(":")[2]))
            stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
            peers.append(tools.Peer(stream))
            await peers[-1].shake_hands()
        first, second = peers
        assert (await first.connect())["user"] == "ann@example.org"
        assert (await first.ask(op="publish", id=2, topic="inbox/x", data=1))["op"] == "published"
        assert (await first.ask(op="publish", id=3, topic="other/x", data=1))["code"] == "forbidden"
        assert (await second.ask(op="connect", id=1))["code"] == "unavailable"
        daemon.reload(settings)
        assert (await first.ask(op="ping", id=4))["op"] == "pong", "a reload does not touch a certificate's user"
        for peer in peers:
            await trio.aclose_forcefully(peer.stream)

"""A reload takes effect in one step or not at all, and nobody is disconnected."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from attrs import evolve

from tercet_broker.core import Action, BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings, Rule
from tercet_broker.runtime import (
    AuthSettings,
    Daemon,
    DaemonSettings,
    JwtSettings,
    ListenerSettings,
    TlsSettings,
    open_daemon,
)
from tercet_broker.runtime.settings import ConnectionSettings

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve


def write_pair(authority: trustme.CA, folder: Path, name: str = "localhost") -> TlsSettings:
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    (folder / "server.pem").chmod(0o600)
    return TlsSettings(folder / "server.pem", folder / "server.pem")


async def served_name(port: int, context: ssl.SSLContext) -> str:
    """Return the name in the certificate that a new connection is shown."""
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context, https_compatible=True)
    await stream.do_handshake()
    certificate: Any = stream.getpeercert()
    await trio.aclose_forcefully(stream)
    return str(certificate["subjectAltName"][0][1])


async def test_new_certificate_is_for_new_handshakes_and_old_connections_stay(
    tmp_path: Path, authority: trustme.CA, client_context: ssl.SSLContext, tools: Any
) -> None:
    client_context.check_hostname = False
    tls = write_pair(authority, tmp_path)
    settings = DaemonSettings(listeners=(ListenerSettings("127.0.0.1:0", tls=tls),))
    daemon = Daemon(settings)
    async with open_daemon(daemon) as urls:
        port = int(urls[0].rpartition(":")[2])
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", port, ssl_context=client_context, https_compatible=True
        )
        client = tools.Peer(stream)
        await client.shake_hands()
        await client.connect()
        write_pair(authority, tmp_path, "renewed.example")
        assert await served_name(port, client_context) == "localhost"
        assert daemon.reload(settings) == ()
        assert await served_name(port, client_context) == "renewed.example"
        await client.ask(op="ping", id=2)
        # A pair that does not fit changes nothing, and breaks nothing.
        trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(tmp_path / "other.pem"))
        wrong = ListenerSettings("127.0.0.1:0", tls=evolve(tls, key=tmp_path / "other.pem"), origins=("https://x.y",))
        with pytest.raises(OSError, match="cannot use the certificate"):
            daemon.reload(evolve(settings, listeners=(wrong,), connections=ConnectionSettings(total=1)))
        assert daemon.settings == settings
        assert daemon.admission.settings.total == 50_000
        assert await served_name(port, client_context) == "renewed.example"
        await client.ask(op="ping", id=3)
        await trio.aclose_forcefully(stream)
    client_context.check_hostname = True


async def test_limits_and_namespaces_change_under_live_connections(serve: Serve) -> None:
    async with serve() as harness:
        client = await harness.client()
        await client.ask(op="subscribe", id=2, filter="a/#")
        broker = BrokerSettings(
            {"a": NamespaceSettings(retained=False, history=HistorySettings(messages=5))},
            limits=LimitSettings(subscriptions=1),
        )
        settings = evolve(harness.daemon.settings, broker=broker)
        assert harness.daemon.reload(settings) == ()
        assert (await client.ask(op="subscribe", id=3, filter="b"))["code"] == "too_many_subscriptions"
        assert (await client.ask(op="publish", id=4, topic="a/x", data=1, retain=True))["code"] == "unsupported"
        await client.say(op="publish", id=5, topic="a/x", data=1)
        await client.expect("message", data=1)
        await client.expect("published", seq=1)
        assert (await client.ask(op="history", id=6, filter="a/#"))["messages"][0]["data"] == 1
        late = await harness.client()
        assert (await late.ask(op="ping", id=7))["op"] == "pong"
        harness.assert_balanced()


async def test_what_cannot_change_is_said(serve: Serve) -> None:
    async with serve(transport="ws") as harness:
        settings = evolve(
            harness.daemon.settings,
            listeners=(ListenerSettings("127.0.0.1:1"),),
            broker=BrokerSettings(limits=LimitSettings(key_seconds=5)),
        )
        waiting = harness.daemon.reload(settings)
        assert waiting == (
            "listener 127.0.0.1:0, which is to end",
            "listener 127.0.0.1:1, which is new",
            "limits.key_seconds",
        )
        assert harness.daemon.broker.told_limits.key_seconds == 300


async def test_hook_that_fails_stops_everything(serve: Serve) -> None:
    async with serve() as harness:
        daemon, done = harness.daemon, []

        def good(_: DaemonSettings) -> Callable[[], None]:
            return lambda: done.append("good")

        def bad(_: DaemonSettings) -> Callable[[], None]:
            raise ValueError("no such rule")

        daemon.reload_hooks[:] = [good, bad]
        with pytest.raises(ValueError, match="no such rule"):
            daemon.reload(evolve(daemon.settings, connections=ConnectionSettings(total=1)))
        assert (done, daemon.admission.settings.total, daemon.reloads) == ([], 50_000, 0)
        daemon.reload_hooks[:] = [good]
        daemon.reload(evolve(daemon.settings, connections=ConnectionSettings(total=1)))
        assert (done, daemon.admission.settings.total, daemon.reloads) == (["good"], 1, 1)


async def test_rules_and_tokens_change_with_the_rest_or_not_at_all(serve: Serve, tmp_path: Path) -> None:
    """A-012: who may no longer subscribe is told; a bad key, and `auth` where there was none, change nothing."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    auth = AuthSettings(required=False, jwt=(JwtSettings("me", "tercet", "HS256", key=secret),))
    async with serve(DaemonSettings(auth=auth)) as harness:
        daemon, client = harness.daemon, await harness.client()
        await client.ask(op="subscribe", id=2, filter="a/#")
        wanted = evolve(
            daemon.settings,
            rules=(Rule(("*",), (Action.SUBSCRIBE,), ("b/#",)),),
            connections=ConnectionSettings(total=1),
        )
        gone = evolve(auth, jwt=(JwtSettings("me", "tercet", "HS256", key=tmp_path / "gone"),))
        for refused in (evolve(wanted, auth=gone), evolve(wanted, auth=None)):
            with pytest.raises((OSError, ValueError)):
                daemon.reload(refused)
            assert (daemon.admission.settings.total, daemon.reloads, daemon.settings.rules) == (50_000, 0, ())
        await client.ask(op="ping", id=3)
        daemon.reload(wanted)
        await client.expect("unsubscribed", sub=2, code="forbidden")
        assert (daemon.admission.settings.total, daemon.settings.rules) == (1, wanted.rules)


def test_private_key_that_all_can_read_is_warned_about(tls: TlsSettings, tmp_path: Path, logs: Logs) -> None:
    from tercet_broker.runtime import make_tls_context  # noqa: PLC0415

    key = tmp_path / "key.pem"
    shutil.copy(tls.key, key)
    for mode, warnings in ((0o600, 0), (0o640, 0), (0o644, 1)):
        key.chmod(mode)
        logs.clear()
        make_tls_context(evolve(tls, key=key))
        assert len(logs) == warnings

"""Real proxies in front, with the configurations that config/proxies/ holds."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import tercet
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon

if TYPE_CHECKING:
    from tests.integration.conftest import Certificates

HOST = "127.0.0.1"
PATIENCE = 30.0


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


@asynccontextmanager
async def running(command: list[str], port: int) -> AsyncIterator[None]:
    """Run a proxy, from when it listens on."""
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(partial(trio.run_process, command, check=False))
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await trio.aclose_forcefully(await trio.open_tcp_stream(HOST, port))
                    break
                except OSError:
                    assert process.poll() is None, f"{command[0]} has ended"
                    await trio.lowlevel.checkpoint()
        yield
        nursery.cancel_scope.cancel()


async def talk(url: str, context: ssl.SSLContext) -> None:
    """Publish and receive, large messages too."""
    async with tercet.connect(url, ssl_context=context) as client, client.subscribe("a/#") as messages:
        for data in ("hello", "x" * 100_000):
            await client.publish("a/b", data)
            with trio.fail_after(PATIENCE):
                async for message in messages:
                    if isinstance(message, tercet.Message):
                        assert message.data == data
                        break


async def refused(url: str, context: ssl.SSLContext, origin: str) -> int:
    """Return the status that a page of this origin gets."""
    scheme, _, authority = url.partition("://")
    port = int(authority.rpartition(":")[2])
    stream: trio.abc.Stream = await trio.open_tcp_stream(HOST, port)
    if scheme == "wss":
        stream = trio.SSLStream(stream, context, server_hostname=HOST, https_compatible=True)
    head = [
        f"GET / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ]
    await stream.send_all("\r\n".join(head).encode())
    answer = await stream.receive_some(1000)
    await trio.aclose_forcefully(stream)
    return int(answer.split()[1])


def pem(certificates: Certificates, tmp_path: Path) -> Path:
    """The certificate and its key in one file, as HAProxy wants them."""
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.settings.certificate.read_bytes() + certificates.settings.key.read_bytes())
    return both


@pytest.mark.needs("nginx")
async def test_nginx_in_front(
    root: Path, tool: Callable[[str], Path], tmp_path: Path, certificates: Certificates, logged: list[Any]
) -> None:
    plain, encrypted = free_port(), free_port()
    listener = ListenerSettings(f"{HOST}:0", trusted_proxies=(HOST,), origins=("https://example.org",))
    async with open_daemon(Daemon(DaemonSettings(listeners=(listener,)))) as urls:
        text = (root / "config/proxies/nginx.conf").read_text()
        for old, new in {
            "127.0.0.1:8080": urls[0].removeprefix("ws://"),
            "listen 443 ssl;": f"listen {HOST}:{encrypted} ssl; listen {HOST}:{plain};",
            "/etc/tercet/cert.pem": str(certificates.settings.certificate),
            "/etc/tercet/key.pem": str(certificates.settings.key),
        }.items():
            assert old in text
            text = text.replace(old, new)
        folders = "".join(
            f"{name}_temp_path {tmp_path}/{name};" for name in "client_body proxy fastcgi uwsgi scgi".split()
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors;"
            f"events {{}} http {{ access_log off; {folders} {text} }}"
        )
        command = [str(tool("nginx")), "-e", f"{tmp_path}/errors", "-c", f"{tmp_path}/nginx.conf"]
        async with running(command, plain):
            for url in (f"ws://{HOST}:{plain}", f"wss://{HOST}:{encrypted}"):
                await talk(url, certificates.context)
                assert await refused(url, certificates.context, "https://evil.example") == 403
                assert await refused(url, certificates.context, "https://example.org") == 101
    opened = [entry["peer"] for entry in logged if entry["event"] == "connection opened"]
    assert opened
    assert all(peer.startswith("127.0.0.1 via 127.0.0.1:") for peer in opened)


@pytest.mark.needs("haproxy")
async def test_haproxy_in_front_with_the_proxy_protocol(
    root: Path, tool: Callable[[str], Path], tmp_path: Path, certificates: Certificates, logged: list[Any]
) -> None:
    encrypted = free_port()
    listener = ListenerSettings(
        f"{HOST}:0", trusted_proxies=(HOST,), proxy_protocol=True, origins=("https://example.org",)
    )
    async with open_daemon(Daemon(DaemonSettings(listeners=(listener,)))) as urls:
        text = (root / "config/proxies/haproxy.cfg").read_text()
        for old, new in {
            "127.0.0.1:8081": urls[0].removeprefix("ws://"),
            "bind :443": f"bind {HOST}:{encrypted}",
            "/etc/tercet/both.pem": str(pem(certificates, tmp_path)),
            "maxconn 60000": "maxconn 100",
        }.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "haproxy.cfg").write_text(text)
        command = [str(tool("haproxy")), "-f", f"{tmp_path}/haproxy.cfg"]
        await trio.run_process([*command, "-c"], capture_stdout=True, capture_stderr=True)
        async with running([*command, "-db"], encrypted):
            url = f"wss://{HOST}:{encrypted}"
            await talk(url, certificates.context)
            assert await refused(url, certificates.context, "https://evil.example") == 403
    opened = [entry["peer"] for entry in logged if entry["event"] == "connection opened"]
    assert opened
    for peer in opened:
        client, _, proxy = peer.partition(" via ")
        assert client.startswith("127.0.0.1:")
        assert proxy.startswith("127.0.0.1:")
        assert client != proxy

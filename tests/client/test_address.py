"""URLs, and connecting over real sockets."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from trio_websocket import wrap_server_stream

import tercet


async def serve(stream: trio.abc.Stream) -> None:
    """Be a broker that only accepts, and takes publishes to be nothing."""
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        websocket = await request.accept(subprotocol="tercet.v1.json")
        hello = json.loads(await websocket.get_message())
        limits = dict.fromkeys(("message_bytes", "subscriptions", "topic_bytes", "topic_levels", "last"), 1000)
        await websocket.send_message(
            json.dumps(
                {
                    "op": "connected",
                    "id": hello["id"],
                    "connection": request.path,
                    "server": "s",
                    "heartbeat": 25.0,
                    "limits": limits | {"key_seconds": 300.0},
                }
            )
        )
        publish = json.loads(await websocket.get_message())
        reply = {"op": "published", "id": publish["id"], "epoch": request.path, "seq": 1}
        await websocket.send_message(json.dumps(reply))
        await trio.sleep_forever()


Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def test_tcp(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    port = listeners[0].socket.getsockname()[1]
    published = await tercet.publish(f"ws://127.0.0.1:{port}/path?x=1", "a/x", 1)
    assert published.position == tercet.Position("/path?x=1", 1)


async def test_unix_socket(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    socket = trio.socket.socket(trio.socket.AF_UNIX)
    await socket.bind(str(path))
    socket.listen()
    nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(socket)])
    published = await tercet.publish(f"ws+unix://{tmp_path}/a%20socket", "a/x", 1)
    assert published.position.epoch == "/"


async def test_tls(nursery: trio.Nursery) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    listeners = await trio.open_ssl_over_tcp_listeners(0, server, host="127.0.0.1", https_compatible=True)

    async def guarded(stream: trio.abc.Stream) -> None:
        try:
            await serve(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client that does not trust us

    nursery.start_soon(trio.serve_listeners, guarded, listeners)
    below = listeners[0].transport_listener
    assert isinstance(below, trio.SocketListener)
    port = below.socket.getsockname()[1]
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with tercet.connect(f"wss://localhost:{port}", ssl_context=trusting) as client:
        assert (await client.publish("a/x", 1)).position.seq == 1
    with pytest.raises(tercet.CannotConnectError, match="certificate verify failed"):
        async with tercet.connect(f"wss://localhost:{port}"):
            pytest.fail("connected")


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(tercet.CannotConnectError, match="No such file") as caught:
        async with tercet.connect(f"ws+unix://{tmp_path}/none"):
            pytest.fail("connected")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "ws://",
        "ws:///path",
        "broker:8080",
        "ws://x:port",
        "ws://x/#part",
        "ws://user@x",
        "ws://x/a b",
        "ws://x/é",
        "ws+unix://x/path",
        "ws+unix:///",
        "ws+unix:///path?x=1",
    ],
)
async def test_what_is_no_url_of_a_broker(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        async with tercet.connect(url):
            pytest.fail("connected")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://example.org", b"example.org"),
        ("ws://example.org:80/x", b"example.org"),
        ("ws://example.org:81", b"example.org:81"),
        ("wss://example.org", b"example.org"),
        ("ws://[::1]:8080", b"[::1]:8080"),
        ("ws+unix:///run/x", b"localhost"),
    ],
)
async def test_handshake_names_the_host(url: str, host: bytes, nursery: trio.Nursery) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return theirs

    async def connect() -> None:
        async with tercet.connect(url, dial=dial):
            pytest.fail("connected")

    nursery.start_soon(connect)
    head = b""
    while b"\r\n\r\n" not in head:
        head += bytes(await ours.receive_some())
    assert b"\r\nHost: " + host + b"\r\n" in head
    nursery.cancel_scope.cancel()

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from attrs import define
from trio.testing import MockClock

from tercet_broker.runtime import ListenerSettings, TlsSettings, make_tls_context
from tercet_broker.runtime.doorway import Doorway
from tercet_broker.runtime.listeners import SocketListener, accept_forever, open_listeners

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_listener_tells_the_port_that_the_system_chose(bind: str) -> None:
    async with open_listeners((ListenerSettings(bind),)) as listeners:
        for listener in listeners:
            assert listener.url.startswith("ws://[::1]:" if ":" in listener.url[5:8] else "ws://127.0.0.1:")
            host = "::1" if "[" in listener.url else "127.0.0.1"
            stream = await trio.open_tcp_stream(host, port_of(listener.url))
            wire = await listener.accept()
            assert wire.peer.startswith("[::1]:" if host == "::1" else "127.0.0.1:")
            await wire.aclose()
            await stream.aclose()


async def test_several_listeners_serve_one_broker(serve: Serve, tmp_path: Path, tools: Any, tls: TlsSettings) -> None:
    import random  # noqa: PLC0415

    from tercet_broker.runtime import Daemon, DaemonSettings, open_daemon  # noqa: PLC0415

    settings = DaemonSettings(
        listeners=(
            ListenerSettings("127.0.0.1:0", path="/a/"),
            ListenerSettings("[::1]:0"),
            ListenerSettings(f"unix:{tmp_path}/s"),
            ListenerSettings("127.0.0.1:0", tls=tls),
        )
    )
    async with open_daemon(Daemon(settings, entropy=random.Random(0))) as urls:
        assert urls[0].endswith("/a")
        assert [url.partition(":")[0] for url in urls] == ["ws", "ws", "ws+unix", "wss"]
        streams = [
            await trio.open_tcp_stream("127.0.0.1", port_of(urls[0])),
            await trio.open_tcp_stream("::1", port_of(urls[1])),
            await trio.open_unix_socket(f"{tmp_path}/s"),
        ]
        peers = [tools.Peer(stream) for stream in streams]
        await peers[0].shake_hands("/a/")
        await peers[1].shake_hands("/")
        await peers[2].shake_hands("/")
        for peer in peers:
            await peer.connect()
        await peers[0].ask(op="subscribe", id=2, filter="a")
        await peers[2].say(op="publish", topic="a", data=1)
        await peers[0].expect("message", data=1)
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def test_stale_unix_socket_is_removed_and_ours_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    async with open_listeners((ListenerSettings(f"unix:{path}"),)) as (listener,):
        assert stat.S_ISSOCK(path.stat().st_mode)
        stream = await trio.open_unix_socket(str(path))
        wire = await listener.accept()
        assert wire.peer == "unix"
        await wire.aclose()
        await stream.aclose()
    assert not path.exists()


async def test_live_unix_socket_is_not_stolen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with open_listeners((ListenerSettings(f"unix:{path}"),)) as (listener,):
        with pytest.raises(OSError, match="cannot listen on unix:") as caught:
            async with open_listeners((ListenerSettings(f"unix:{path}"),)):
                pass
        assert caught.value.errno == errno.EADDRINUSE
        stream = await trio.open_unix_socket(str(path))
        # The probe of the second has come and gone.
        for _ in range(2):
            await (await listener.accept()).aclose()
        await stream.aclose()


async def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="cannot listen on unix:"):
        async with open_listeners((ListenerSettings(f"unix:{path}"),)):
            pass
    assert path.read_text() == "precious"


async def test_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    """The path may be another process's by the time we stop."""
    path = tmp_path / "s"
    async with open_listeners((ListenerSettings(f"unix:{path}"),)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


async def test_all_listeners_are_opened_or_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no paths are wanted
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with open_listeners((ListenerSettings(f"unix:{tmp_path}/s"), ListenerSettings(f"127.0.0.1:{port}"))):
                pass
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - likewise
    assert not (tmp_path / "s").exists()


async def test_error_names_the_host_that_is_not_found() -> None:
    with pytest.raises(OSError, match=r"cannot listen on no-such-host\.invalid:80"):
        async with open_listeners((ListenerSettings("no-such-host.invalid:80"),)):
            pass


def test_error_names_the_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cert\.pem"):
        make_tls_context(TlsSettings(tmp_path / "cert.pem", tmp_path / "key.pem"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_is_the_oldest(
    serve: Serve, client_context: ssl.SSLContext, authority: Any, version: ssl.TLSVersion
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    async with serve(transport="wss") as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(broker.urls[0]))
        encrypted = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        await encrypted.do_handshake()
        assert context.maximum_version == version
        await trio.aclose_forcefully(encrypted)


def test_tls_below_1_2_is_refused(tls: TlsSettings) -> None:
    assert make_tls_context(tls).minimum_version is ssl.TLSVersion.TLSv1_2


@define(eq=False)
class FailingSocket:
    """A listening socket whose first accepts fail."""

    inner: socket.socket
    errors: list[int]

    def fileno(self) -> int:
        return self.inner.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self.inner.accept()


ACCEPT_ERRORS = "ECONNABORTED EPERM EPROTO ENETDOWN EHOSTUNREACH ENETUNREACH ENOPROTOOPT EHOSTDOWN ENONET ETIMEDOUT"


@pytest.mark.parametrize("name", f"EMFILE ENFILE ENOMEM ENOBUFS {ACCEPT_ERRORS}".split())
async def test_accept_error_ends_nothing(name: str, logs: Logs) -> None:
    """accept(2): what is pending on the new connection is not the listener's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        failing: Any = FailingSocket(server, [getattr(errno, name)] * 2)
        listener = SocketListener(failing, "ws://x", Doorway(), ListenerSettings("x"))
        with socket.create_connection(server.getsockname()), trio.fail_after(10):
            wire = await listener.accept()
            await wire.aclose()
    warned = [entry for entry in logs if entry["event"] == "cannot accept"]
    assert len(warned) == (1 if name in {"EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"} else 0)


async def test_accept_error_that_is_a_bug_is_raised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        failing: Any = FailingSocket(server, [errno.EBADF])
        with socket.create_connection(server.getsockname()), pytest.raises(OSError, match="Bad file descriptor"):
            await SocketListener(failing, "ws://x", Doorway(), ListenerSettings("x")).accept()


EXHAUSTED = """
import resource, socket, structlog, trio
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon

structlog.configure(processors=[structlog.testing.LogCapture()])

async def main():
    daemon = Daemon(DaemonSettings(listeners=(ListenerSettings("127.0.0.1:0"),)))
    async with open_daemon(daemon) as (url,):
        port = int(url.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        used = max(client.fileno() for client in clients)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, used + 8))
        await trio.sleep(0.3)  # it tries, and cannot
        for client in clients[5:]:
            client.close()
        with trio.fail_after(30):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(b"GET /health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            print((await stream.receive_some(100))[:12].decode())

trio.run(main)
"""


def test_want_of_descriptors_passes() -> None:
    done = subprocess.run([sys.executable, "-c", EXHAUSTED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "HTTP/1.1 200\n", done.stderr


@define(eq=False)
class Closing:
    wires: list[Any]
    url: str = "ws://x"
    path: str = "/"

    async def accept(self) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.wires:
            raise trio.ClosedResourceError
        return self.wires.pop(0)

    async def aclose(self) -> None:
        """Nothing."""


async def test_accepting_ends_with_the_listener() -> None:
    served: list[Any] = []

    async def serve(wire: Any) -> None:
        served.append(wire)

    await accept_forever(Closing([1, 2, 3]), serve)
    assert served == [1, 2, 3]


async def ignore(_: Any) -> None:
    """Nobody comes."""


async def test_closed_listener_wakes_who_accepts(autojump_clock: MockClock) -> None:
    async with open_listeners((ListenerSettings("127.0.0.1:0"),)) as (listener,), trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, listener, ignore)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()

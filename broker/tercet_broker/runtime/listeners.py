"""Where connections come from: TCP and Unix sockets, plain or TLS.

Accepting never ends for what a peer does or for want of descriptors: it
waits a little and goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import structlog
import trio
from attrs import define, field

from .address import TcpAddress, UnixAddress, parse_bind
from .settings import ListenerSettings, TlsSettings
from .wire import SocketWire, Wire

log = structlog.get_logger("tercet")

# What accept() raises when the machine, not the peer, is at its end: it gets
# better by waiting (accept(2); trio's own serve_listeners waits the same).
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_PAUSE = 0.1  # seconds
# What it raises for the connection that it would have returned: that one is lost, no more
# (accept(2): "treat them like EAGAIN").
_PEER_ERRORS = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EPERM,
        errno.EPROTO,
        errno.ETIMEDOUT,
        *(getattr(errno, name) for name in ("EHOSTDOWN", "ENONET") if hasattr(errno, name)),
    }
)


class Listener(Protocol):
    """A source of connections.

    Attributes:
        url: what a client connects to.
        path: the only path that is served.
    """

    @property
    def url(self) -> str:
        """What a client connects to."""

    @property
    def path(self) -> str:
        """The only path that is served."""

    async def accept(self) -> Wire:
        """Wait for the next connection. Cancelling it loses none."""

    async def aclose(self) -> None:
        """Stop listening."""


@define(eq=False)
class SocketListener:
    """Listens on one socket.

    Attributes:
        is_private: whether tokens are taken here: it is encrypted, on loopback, or said to be `insecure`.
    """

    sock: socket.socket = field(repr=False)
    url: str
    path: str
    context: ssl.SSLContext | None = field(default=None, repr=False)
    is_private: bool = True

    async def accept(self) -> Wire:
        """Return the next connection as a wire, with no byte exchanged yet."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    log.warning("cannot accept", url=self.url, reason=str(error))
                    await trio.sleep(_PAUSE)
                elif error.errno not in _PEER_ERRORS:
                    raise
                continue
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(sock.close)
                sock.setblocking(False)
                if sock.family != socket.AF_UNIX:
                    with contextlib.suppress(OSError):  # it may be gone already
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    if self.context is not None:
                        # Of one that was reset, `wrap_socket` raises and leaves another socket behind, unclosed.
                        sock.getpeername()
                        sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                except OSError:
                    continue  # it is gone already
                on_failure.pop_all()
            return SocketWire(sock, _peer_name(address), self.is_private)

    async def aclose(self) -> None:
        """Close the socket; what waits in `accept` ends with `trio.ClosedResourceError`."""
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        await trio.lowlevel.checkpoint()


def _peer_name(address: object) -> str:
    if isinstance(address, tuple):
        host, port = str(address[0]), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix"


def make_tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a server's context: TLS 1.2 or newer, with this certificate.

    Raises:
        OSError: a file cannot be read, or (`ssl.SSLError`) is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:
        # The system's error names no file.
        where = f"cannot use the certificate {settings.certificate} with the key {settings.key}"
        error.strerror = f"{where}: {error.strerror}"
        raise
    return context


@asynccontextmanager
async def open_listeners(settings: tuple[ListenerSettings, ...]) -> AsyncIterator[tuple[SocketListener, ...]]:
    """Listen on all of these, or on none; closed on leaving.

    Raises:
        OSError: an address is in use, not ours, or not permitted; its text names it.
    """
    async with contextlib.AsyncExitStack() as stack:
        listeners: list[SocketListener] = []
        for one in settings:
            context = None if one.tls is None else make_tls_context(one.tls)
            address = parse_bind(one.bind)
            if isinstance(address, UnixAddress):
                opened = [_listen_unix(address, one)]
                stack.callback(_unlink_socket, address.path, os.lstat(address.path))
                urls = [f"ws+unix://{address.path}"]
            else:
                opened = await _listen_tcp(address, one)
                scheme = "ws" if one.tls is None else "wss"
                urls = [f"{scheme}://{_authority(sock, address)}{one.path.rstrip('/')}" for sock in opened]
            for sock, url in zip(opened, urls, strict=True):
                is_private = context is not None or address.is_loopback or one.insecure
                listener = SocketListener(sock, url, one.path, context, is_private)
                stack.push_async_callback(listener.aclose)
                listeners.append(listener)
        yield tuple(listeners)


def _authority(sock: socket.socket, address: TcpAddress) -> str:
    """Return HOST:PORT with the port that the system has chosen, if it has."""
    host = sock.getsockname()[0] if address.host == "localhost" else address.host
    return str(TcpAddress(host, sock.getsockname()[1]))


async def _listen_tcp(address: TcpAddress, settings: ListenerSettings) -> list[socket.socket]:
    """Listen on every address that the host means; with port 0 on the same port of each."""
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"cannot listen on {settings.bind}: {error.strerror}") from error
    opened: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, _, target in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            opened.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bind(sock, (target[0], port, *target[2:]), settings)
            port = sock.getsockname()[1]
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened


def _listen_unix(address: UnixAddress, settings: ListenerSettings) -> socket.socket:
    """Listen on a path; a socket that a dead process has left there is removed first."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if _is_stale(address.path):
            os.unlink(address.path)  # noqa: PTH108 - a socket, not a file to be opened
        _bind(sock, address.path, settings)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, target: object, settings: ListenerSettings) -> None:
    try:
        sock.bind(target)  # type: ignore[arg-type]  # what an address is depends on the family
        sock.listen(settings.backlog)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {settings.bind}: {error.strerror}") from error


def _is_stale(path: str) -> bool:
    """Tell whether a socket stands at `path` that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116 - likewise
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _unlink_socket(path: str, ours: os.stat_result) -> None:
    """Remove our socket, and not one that a successor has put into its place."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.lstat(path), ours):
            os.unlink(path)  # noqa: PTH108


async def accept_forever(listener: Listener, serve: Callable[[Wire], None]) -> None:
    """Hand every connection to `serve`, until cancelled or until the listener is closed."""
    while True:
        try:
            wire = await listener.accept()
        except trio.ClosedResourceError:
            return
        serve(wire)

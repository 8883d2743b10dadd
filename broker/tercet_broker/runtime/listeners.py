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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
import trio
from attrs import define, field

from .address import InheritedAddress, TcpAddress, UnixAddress, parse_bind
from .doorway import Doorway
from .networks import IpAddress, parse_address
from .service_manager import InheritedSocketError, inherited_sockets
from .settings import ListenerSettings, TlsSettings
from .wire import SocketWire, Wire, make_buffer

log = structlog.get_logger("tercet")

# What accept() raises when the machine, not the peer, is at its end: it gets
# better by waiting (accept(2); trio's own serve_listeners waits the same).
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_PAUSE = 0.1  # seconds
_PORTS_TRIED = 10  # with port 0, where a host has several addresses
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
        settings: what it was opened with.
        doorway: what is asked of those who come in, and …
        context: … the TLS context. Both may be replaced at any time, for those who come after.
        is_local: whether nobody but this machine reaches it.
        exhausted: how often accepting had to pause for want of descriptors or memory.
    """

    sock: socket.socket = field(repr=False)
    url: str
    doorway: Doorway
    settings: ListenerSettings
    context: ssl.SSLContext | None = field(default=None, repr=False)
    exhausted: int = 0
    is_local: bool = True
    _buffer: memoryview = field(factory=make_buffer, init=False, repr=False)

    @property
    def path(self) -> str:
        """The only path that is served."""
        return self.doorway.path

    @property
    def is_private(self) -> bool:
        """Whether tokens are taken here."""
        return self.context is not None or self.is_local or self.doorway.insecure

    async def accept(self) -> Wire:
        """Return the next connection as a wire, with no byte exchanged yet."""
        is_pausing = False
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                sock, address = self.sock.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    if not is_pausing:
                        log.warning("cannot accept", url=self.url, reason=str(error))
                        self.exhausted += 1
                    is_pausing = True
                    await trio.sleep(_PAUSE)
                elif error.errno not in _PEER_ERRORS:
                    raise
                continue
            if is_pausing:
                log.info("accepting again", url=self.url)
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(sock.close)
                sock.setblocking(False)
                if sock.family != socket.AF_UNIX:
                    with contextlib.suppress(OSError):  # it may be gone already
                        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                on_failure.pop_all()
            return SocketWire(
                sock, _peer_name(address), self.is_private, _ip_address(address), self.context, self._buffer
            )

    async def aclose(self) -> None:
        """Close the socket; what waits in `accept` ends with `trio.ClosedResourceError`."""
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        await trio.lowlevel.checkpoint()


def _is_local(sock: socket.socket) -> bool:
    """Tell whether nobody but this machine reaches what listens here; systemd may have chosen where."""
    address = _ip_address(sock.getsockname())
    return sock.family == socket.AF_UNIX or (address is not None and address.is_loopback)


def _ip_address(address: object) -> IpAddress | None:
    return parse_address(str(address[0])) if isinstance(address, tuple) else None


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
    if settings.key.stat().st_mode & stat.S_IROTH:
        log.warning("everyone on this machine can read the private key: chmod o-r", key=str(settings.key))
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except OSError as error:
            error.strerror = f"cannot use the client_ca {settings.client_ca}: {error.strerror}"
            raise
        is_required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return context


@asynccontextmanager
async def open_listeners(settings: tuple[ListenerSettings, ...]) -> AsyncIterator[tuple[SocketListener, ...]]:
    """Listen on all of these, or on none; closed on leaving.

    Raises:
        OSError: an address is in use, not ours, or not permitted; its text names it.
    """
    async with contextlib.AsyncExitStack() as stack:
        listeners: list[SocketListener] = []
        addresses = [parse_bind(one.bind) for one in settings]
        inherited: dict[str, list[socket.socket]] = {}
        if any(isinstance(address, InheritedAddress) for address in addresses):
            inherited = _inherit()
            stack.callback(_close_all, [sock for socks in inherited.values() for sock in socks])
        for one, address in zip(settings, addresses, strict=True):
            context = None if one.tls is None else make_tls_context(one.tls)
            scheme = "ws" if one.tls is None else "wss"
            if isinstance(address, InheritedAddress):
                opened = _take(inherited, address, one)
                urls = [_inherited_url(sock, scheme, one) for sock in opened]
            elif isinstance(address, UnixAddress):
                opened = [_listen_unix(address, one)]
                stack.callback(_unlink_socket, address.path, os.lstat(address.path))
                urls = [f"ws+unix://{address.path}"]
            else:
                opened = await _listen_tcp(address, one)
                urls = [f"{scheme}://{_authority(sock, address)}{one.path.rstrip('/')}" for sock in opened]
            for sock, url in zip(opened, urls, strict=True):
                listener = SocketListener(sock, url, Doorway.of(one), one, context, is_local=_is_local(sock))
                stack.push_async_callback(listener.aclose)
                listeners.append(listener)
        yield tuple(listeners)


def _inherit() -> dict[str, list[socket.socket]]:
    try:
        return inherited_sockets()
    except InheritedSocketError as error:
        raise OSError(errno.EINVAL, str(error)) from error


def _take(
    inherited: dict[str, list[socket.socket]], address: InheritedAddress, settings: ListenerSettings
) -> list[socket.socket]:
    if address.name not in inherited:
        names = ", ".join(inherited) or "none"
        message = f"cannot listen on {settings.bind}: the service manager has passed no such socket (passed: {names})"
        raise OSError(errno.ENOENT, message)
    return inherited[address.name]


def _inherited_url(sock: socket.socket, scheme: str, settings: ListenerSettings) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"ws+unix://{name}"
    return f"{scheme}://{TcpAddress(name[0], name[1])}{settings.path.rstrip('/')}"


def _close_all(socks: list[socket.socket]) -> None:
    for sock in socks:
        sock.close()


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
    targets = [(family, kind, protocol, target) for family, kind, protocol, _, target in dict.fromkeys(found)]
    # The port that the system chooses for the first address may be taken on the next one.
    for _ in range(_PORTS_TRIED if address.port == 0 and len(targets) > 1 else 0):
        try:
            return _open_tcp(targets, address.port, settings)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _open_tcp(targets, address.port, settings)


def _open_tcp(
    targets: Sequence[tuple[int, int, int, Any]], port: int, settings: ListenerSettings
) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, target in targets:
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


async def accept_forever(listener: Listener, serve: Callable[[Wire], Awaitable[None]]) -> None:
    """Hand every connection to `serve`, until cancelled or until the listener is closed."""
    while True:
        try:
            wire = await listener.accept()
        except trio.ClosedResourceError:
            return
        await serve(wire)

"""Where a broker is: the URL, and how to get a byte stream to it."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import unquote, urlsplit

import trio
from attrs import field, frozen

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_UNIX = "ws+unix"


@frozen
class Address:
    """A parsed URL. Make one with `parse_address`."""

    url: str
    host: str
    port: int
    resource: str  # the path, and the query if there is one
    is_tls: bool = field(default=False)
    socket_path: str | None = field(default=None)

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way can read what is sent there: TLS, a Unix socket, or this machine."""
        if self.is_tls or self.socket_path is not None or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_header(self) -> str:
        """What the handshake names as its host."""
        if self.socket_path is not None:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS["wss" if self.is_tls else "ws"] else f"{host}:{self.port}"

    async def dial(self, context: ssl.SSLContext | None) -> trio.abc.Stream:
        """Return a stream to it; for wss:// the TLS handshake is done.

        Raises:
            OSError, trio.BrokenResourceError: there is none to be had.
        """
        if self.socket_path is not None:
            return await trio.open_unix_socket(self.socket_path)
        if not self.is_tls:
            return await trio.open_tcp_stream(self.host, self.port)
        stream = await trio.open_ssl_over_tcp_stream(
            self.host, self.port, ssl_context=context or ssl.create_default_context(), https_compatible=True
        )
        try:
            await stream.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


def parse_address(url: str) -> Address:
    """Return what `url` names: ws://host[:port][/path], wss://… or ws+unix:///path/of/the/socket.

    Raises:
        ValueError: it is none of these.
    """
    parts = urlsplit(url)
    if parts.fragment or parts.username is not None:
        raise ValueError(f"a broker's URL has no '#' part and no user, {url!r} has; give `token=` instead")
    if parts.scheme == _UNIX:
        if parts.netloc or len(parts.path) <= 1 or parts.query:
            raise ValueError(f"a Unix socket is written ws+unix:///path/of/the/socket, not {url!r}")
        return Address(url, "localhost", 0, "/", socket_path=unquote(parts.path))
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"a broker's URL begins with ws://, wss:// or ws+unix:///, not as in {url!r}")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not resource.isascii() or not resource.isprintable() or " " in resource:
        raise ValueError(f"the path of a URL is ASCII, with %-escapes for the rest, unlike {url!r}")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return Address(url, parts.hostname, port, resource, is_tls=parts.scheme == "wss")

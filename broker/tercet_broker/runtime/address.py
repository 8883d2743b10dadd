"""Where a listener listens: the grammar of `bind`, in this one place.

| form | for |
|---|---|
| `HOST:PORT` | an IPv4 address or a name |
| `[IPV6]:PORT` | an IPv6 address, in brackets as in a URL |
| `unix:/PATH` | a Unix socket, by its absolute path |
| `systemd:NAME` | the sockets that the service manager has opened under that name |
"""

from __future__ import annotations

import ipaddress
import os
import re

from attrs import frozen

MAX_PORT = 65535
# sockaddr_un.sun_path is 108 bytes on Linux (104 on macOS), its final zero included.
MAX_UNIX_PATH = 107

_UNIX = "unix:"
_INHERITED = "systemd:"
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


class AddressError(ValueError):
    """The text is no address to listen on; the error says in one sentence what would be."""


@frozen
class TcpAddress:
    """A host (an IP address without brackets, or a name) and a port; 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: 127.0.0.0/8, ::1 and localhost.

        Anything else counts as public, other spellings of loopback included:
        a name may mean another address tomorrow.
        """
        if self.host.lower() == "localhost":
            return True
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv4Address):
            return ip in _LOOPBACK
        return ip == ipaddress.IPv6Address("::1")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class UnixAddress:
    """The absolute path of a Unix socket."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """Always: no other machine can reach a Unix socket."""
        return True

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


@frozen
class InheritedAddress:
    """The name under which the service manager passes sockets (`FileDescriptorName=` of a socket unit)."""

    name: str

    @property
    def is_loopback(self) -> bool:
        """Never: who can reach it is written elsewhere."""
        return False

    def __str__(self) -> str:
        return f"{_INHERITED}{self.name}"


Address = TcpAddress | UnixAddress | InheritedAddress


def parse_bind(text: str) -> Address:
    """Return the address that `text` names. IP addresses come back in their normal form.

    Nothing is looked up: a name may still turn out not to exist.

    Raises:
        AddressError: it has none of the forms above.
    """
    if text.startswith(_UNIX):
        return _parse_unix(text.removeprefix(_UNIX))
    if text.startswith(_INHERITED):
        name = text.removeprefix(_INHERITED)
        if not name or not name.isascii() or not name.isprintable() or ":" in name:
            raise AddressError(f"{name!r} is no name of a socket: it is what FileDescriptorName= of its unit says")
        return InheritedAddress(name)
    if "://" in text:
        rest = text.partition("://")[2].rstrip("/")
        raise AddressError(f"an address to listen on has no scheme: write {rest!r}, not {text!r}")
    host, colon, port = text.rpartition(":")
    if not colon:
        if _is_port(text):
            raise AddressError(f"{text!r} is only a port: write '127.0.0.1:{text}' for this machine alone")
        raise AddressError(f"{text!r} has no port: write HOST:PORT, as in '127.0.0.1:8080'")
    if not _is_port(port):
        raise AddressError(f"{port!r} is no port: it is a number from 0 to {MAX_PORT}")
    if host in {"", "*"}:
        raise AddressError(
            f"{text!r} does not say on which addresses: write '127.0.0.1:{port}' for this machine alone, "
            f"'0.0.0.0:{port}' for every IPv4 address, '[::]:{port}' for every IPv6 address"
        )
    return TcpAddress(_parse_host(host, text), int(port))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PORT)) and int(text) <= MAX_PORT


def _parse_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError as error:
            raise AddressError(f"{host!r} is no IPv6 address") from error
    if ":" in host:
        raise AddressError(f"{text!r} is ambiguous: an IPv6 address goes into brackets, as in '[::1]:8080'")
    # Also the short forms that the C library would take, such as 127.1 and 0177.0.0.1.
    if not host.strip("0123456789."):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise AddressError(f"{host!r} is no IPv4 address: it is four numbers from 0 to 255") from error
    if not _NAME.fullmatch(host):
        raise AddressError(f"{host!r} is neither an IP address nor the name of a host")
    return host


def _parse_unix(path: str) -> UnixAddress:
    if not path.startswith("/"):
        raise AddressError(f"the path of a Unix socket is absolute, as in 'unix:/run/tercet.sock', not {path!r}")
    if "\0" in path:
        raise AddressError("the path of a Unix socket cannot contain a zero byte")
    if len(os.fsencode(path)) > MAX_UNIX_PATH:
        raise AddressError(f"the path of a Unix socket may have {MAX_UNIX_PATH} bytes at most")
    return UnixAddress(path)

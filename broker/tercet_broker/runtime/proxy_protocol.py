"""The PROXY protocol, versions 1 and 2: a proxy says whose connection it carries, ahead of everything else.

The rules are those of HAProxy's `proxy-protocol.txt` (2.x). A listener that
expects the header expects it of every connection from a trusted proxy, and
of no other: it is never guessed whether there is one (section 2 there).

Sans I/O. `wanted` says how many bytes may be read without touching what
follows the header, because a TLS handshake may.
"""

from __future__ import annotations

import ipaddress
import struct

from attrs import define, field, frozen

from .networks import IpAddress, parse_address

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD = 16  # bytes of version 2 before the addresses; no header of version 1 has less than 15
_SHORTEST = len(_SIGNATURE)
_LONGEST_V1 = 107  # the worst case of section 2.1
MAX_V2 = 2048  # bytes behind the head: addresses and extensions. 216 are the most that addresses take
_VERSION_2 = 0x2
_LOCAL, _PROXY = 0x0, 0x1
_INET, _INET6 = 0x1, 0x2
_STREAM = 0x1


class ProxyHeaderError(Exception):
    """Theirs: what a trusted proxy sent is no PROXY header."""


@frozen
class ProxyHeader:
    """What a header says.

    Attributes:
        address: the client's; None if the proxy speaks for itself (a health check) or does not know.
        port: the client's.
    """

    address: IpAddress | None = None
    port: int = 0


@define(eq=False)
class ProxyHeaderReader:
    """Reads one header.

    Attributes:
        header: what it says, once it is whole.
    """

    header: ProxyHeader | None = None
    _buffer: bytearray = field(factory=bytearray, repr=False)

    @property
    def wanted(self) -> int:
        """How many bytes are missing at least; 0 once the header is whole."""
        if self.header is not None:
            return 0
        have = len(self._buffer)
        if have < _SHORTEST:
            return _SHORTEST - have
        if self._buffer.startswith(_SIGNATURE):
            return _HEAD - have if have < _HEAD else _HEAD + self._length() - have
        return 1 if self._buffer.endswith(b"\r") or have == _LONGEST_V1 - 1 else 2

    def feed(self, data: bytes) -> None:
        """Add what was read, `wanted` bytes at most.

        Raises:
            ProxyHeaderError: it cannot become a header.
        """
        self._buffer += data
        buffer = bytes(self._buffer)
        if _SIGNATURE.startswith(buffer[:_SHORTEST]):
            if len(buffer) >= _HEAD:
                self._check_head()
                if len(buffer) == _HEAD + self._length():
                    self.header = self._parse_v2(buffer)
        elif b"PROXY "[: len(buffer)] != buffer[:6]:
            raise ProxyHeaderError("it begins like no PROXY header")
        elif buffer.endswith(b"\r\n"):
            self.header = _parse_v1(buffer[:-2])
        elif b"\r\n" in buffer:
            raise ProxyHeaderError("version 1's line ends too early")
        elif len(buffer) >= _LONGEST_V1:
            raise ProxyHeaderError(f"version 1 has {_LONGEST_V1} bytes at most")

    def _length(self) -> int:
        (length,) = struct.unpack_from("!H", self._buffer, 14)
        return int(length)

    def _check_head(self) -> None:
        version, command = self._buffer[12] >> 4, self._buffer[12] & 0x0F
        if version != _VERSION_2 or command not in {_LOCAL, _PROXY}:
            raise ProxyHeaderError(f"unknown version {version} or command {command}")
        if self._length() > MAX_V2:
            raise ProxyHeaderError(f"{self._length()} bytes of addresses and extensions; {MAX_V2} are taken")

    @staticmethod
    def _parse_v2(buffer: bytes) -> ProxyHeader:
        family, transport, body = buffer[13] >> 4, buffer[13] & 0x0F, buffer[_HEAD:]
        # A health check, UDP or a Unix socket: the connection itself is all that is known.
        if buffer[12] & 0x0F == _LOCAL or transport != _STREAM or family not in {_INET, _INET6}:
            return ProxyHeader()
        size = 4 if family == _INET else 16
        if len(body) < 2 * size + 4:
            raise ProxyHeaderError("its addresses are cut short")
        (port,) = struct.unpack_from("!H", body, 2 * size)
        return ProxyHeader(parse_address(str(ipaddress.ip_address(body[:size]))), port)


def _parse_v1(line: bytes) -> ProxyHeader:
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError as error:
        raise ProxyHeaderError("version 1 is ASCII") from error
    if words[1] == "UNKNOWN":
        return ProxyHeader()
    versions = {"TCP4": 4, "TCP6": 6}
    if len(words) != 6 or words[1] not in versions:  # noqa: PLR2004 - PROXY, family, two addresses, two ports
        raise ProxyHeaderError("version 1 is 'PROXY TCP4|TCP6 source destination port port'")
    for text in words[2:4]:
        try:
            right = ipaddress.ip_address(text).version == versions[words[1]] and "%" not in text
        except ValueError:
            right = False
        if not right:
            raise ProxyHeaderError(f"no {words[1]} address in version 1's line")
    for text in words[4:]:
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF):  # noqa: PLR2004
            raise ProxyHeaderError("a port of version 1 is a number from 0 to 65535")
    return ProxyHeader(parse_address(words[2]), int(words[4]))

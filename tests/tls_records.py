"""A TLS client that writes records which Python's ssl module cannot: KeyUpdates, and requests to renegotiate.

It shakes hands with `ssl` as any other, and reads with it. What it sends is
encrypted here, with the secrets that OpenSSL writes to a key log
(`SSLContext.keylog_filename`): TLS 1.3 by RFC 8446, TLS 1.2 by RFC 5246 and
5288, with AES in Galois/counter mode.
"""

from __future__ import annotations

import hmac
import itertools
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import trio
from attrs import define, field
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HANDSHAKE, _DATA = 22, 23  # types of record
_CLIENT_HELLO, _KEY_UPDATE = 1, 24  # types of handshake message
_TAG_BYTES = 16
_SERVER_RANDOM = slice(11, 43)  # in a server's first record, behind its header, the message's and a version


class Sealer(ABC):
    """What encrypts a client's records."""

    @abstractmethod
    def seal(self, kind: int, content: bytes) -> bytes:
        """Return a record."""


@define
class Sealer13(Sealer):
    """TLS 1.3.

    Attributes:
        secret: of what the client sends; a KeyUpdate replaces it.
        digest: the name of the cipher suite's hash.
        key_bytes: of AES.
    """

    secret: bytes
    digest: str
    key_bytes: int
    _numbers: Iterator[int] = field(factory=itertools.count)

    def _expand(self, label: str, size: int) -> bytes:
        """RFC 8446, 7.1: HKDF-Expand-Label, for no more than one block."""
        name = b"tls13 " + label.encode()
        info = struct.pack("!HB", size, len(name)) + name + b"\0"
        return hmac.digest(self.secret, info + b"\1", self.digest)[:size]

    def seal(self, kind: int, content: bytes) -> bytes:
        """RFC 8446, 5.2 and 5.3."""
        inner = content + bytes((kind,))
        head = struct.pack("!BHH", _DATA, 0x0303, len(inner) + _TAG_BYTES)
        nonce = int.from_bytes(self._expand("iv", 12), "big") ^ next(self._numbers)
        return head + AESGCM(self._expand("key", self.key_bytes)).encrypt(nonce.to_bytes(12, "big"), inner, head)

    def key_update(self, *, is_requested: bool) -> bytes:
        """RFC 8446, 4.6.3 and 7.2: the next keys from here on, and the peer's as well if that is requested."""
        record = self.seal(_HANDSHAKE, bytes((_KEY_UPDATE, 0, 0, 1, is_requested)))
        self.secret = self._expand("traffic upd", len(self.secret))
        self._numbers = itertools.count()
        return record


@define
class Sealer12(Sealer):
    """TLS 1.2."""

    key: bytes
    salt: bytes
    _numbers: Iterator[int] = field(factory=lambda: itertools.count(1))  # the first was the handshake's Finished

    @classmethod
    def of(cls, master: bytes, client_random: bytes, server_random: bytes, digest: str, key_bytes: int) -> Sealer12:
        """RFC 5246, 5 and 6.3: the pseudorandom function, and what of it is whose."""
        seed = b"key expansion" + server_random + client_random
        block, chained = b"", seed
        while len(block) < 2 * key_bytes + 8:
            chained = hmac.digest(master, chained, digest)
            block += hmac.digest(master, chained + seed, digest)
        return cls(block[:key_bytes], block[2 * key_bytes :][:4])

    def seal(self, kind: int, content: bytes) -> bytes:
        """RFC 5288, 3."""
        number = next(self._numbers).to_bytes(8, "big")
        about = number + struct.pack("!BHH", kind, 0x0303, len(content))
        sealed = number + AESGCM(self.key).encrypt(self.salt + number, content, about)
        return struct.pack("!BHH", kind, 0x0303, len(sealed)) + sealed

    def renegotiation(self) -> bytes:
        """RFC 5246, 7.4.1: another ClientHello, on a connection that has had one."""
        body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\xc0\x30" + b"\x01\x00"
        return self.seal(_HANDSHAKE, bytes((_CLIENT_HELLO,)) + len(body).to_bytes(3, "big") + body)


@define(eq=False)
class HandWrittenTls:
    """The client's end of a connection.

    Attributes:
        stream: what TLS runs on.
        context: whom it trusts; its key log is read.
        sealer: what encrypts, once the handshake is done.
    """

    stream: trio.abc.Stream
    context: ssl.SSLContext
    sealer: Sealer = field(init=False)
    _incoming: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = field(factory=ssl.MemoryBIO)
    _tls: ssl.SSLObject = field(init=False)

    async def handshake(self) -> None:
        self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        first = b""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.stream.send_all(self._outgoing.read())
                data = await self.stream.receive_some(1 << 16)
                assert data, "the server went away in the handshake"
                first = first or bytes(data)
                self._incoming.write(data)
            else:
                break
        await self.stream.send_all(self._outgoing.read())
        self.sealer = self._make_sealer(first)

    def _make_sealer(self, server_hello: bytes) -> Sealer:
        cipher = self._tls.cipher()
        assert cipher is not None
        name, version, _ = cipher
        digest, key_bytes = ("sha384", 32) if "256" in name else ("sha256", 16)
        # Of several connections that share a log ours is the last.
        secrets = {}
        for line in Path(self.context.keylog_filename).read_text().splitlines():
            if not line.startswith("#"):
                label, random, secret = line.split()
                secrets[label] = (bytes.fromhex(random), bytes.fromhex(secret))
        if self._tls.version() == "TLSv1.3":
            return Sealer13(secrets["CLIENT_TRAFFIC_SECRET_0"][1], digest, key_bytes)
        assert "GCM" in name, (name, version)
        client_random, master = secrets["CLIENT_RANDOM"]
        return Sealer12.of(master, client_random, server_hello[_SERVER_RANDOM], digest, key_bytes)

    async def send(self, data: bytes) -> None:
        """Send what the application has to say, 16 KiB at most."""
        await self.stream.send_all(self.sealer.seal(_DATA, data))

    async def receive(self) -> bytes:
        """Return what the server says next; b"" at the end, with a close_notify or without.

        Raises:
            ssl.SSLError: an alert, or something that is no TLS.
        """
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                try:
                    data = await self.stream.receive_some(1 << 16)
                except trio.BrokenResourceError:
                    return b""
                if not data:
                    return b""
                self._incoming.write(data)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

"""A wire: what a link stands on. Bytes in, bytes out, and no opinion about them.

Writing is `try_send`, which takes what it can at once, and where that is not
all, `wait_writable` and again. Bytes that were taken are the wire's, and the
others the caller's, who may have changed its mind when the wait is over.

There are two. A `SocketWire` owns a non-blocking socket, plain or TLS. A
`StreamWire` makes do with any Trio stream: it takes one piece at once, which
leaves this process while somebody waits for that.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

import trio
from attrs import define, field

from ..core import Identity
from .networks import IpAddress

_READ = 64 * 1024  # bytes taken from the kernel at once …
_TLS_READ = 17 * 1024  # … or so many of ciphertext: a whole record (RFC 8446, 5.2)
# What a record has besides data, at most: TLS 1.3 has a header, a type and a tag; 1.2 has the padding of CBC as well.
_RECORD = {"TLSv1.3": 32}
_OLD_RECORD = 128
_MAX_DATALESS = 24 * 1024  # bytes of records without data (KeyUpdate), and of one that has not come whole, before …
_DATALESS_RATE = 16 * 1024  # … no more than so many a second are read, 600 KeyUpdates
_TLS_PIECE = 64 * 1024  # bytes encrypted before the kernel is offered them
_MAX_UNSENT = 256 * 1024  # bytes of ciphertext that wait for the kernel, of one piece and of OpenSSL's own answers
_STREAM_PIECE = 64 * 1024  # bytes that a stream is given at once


class Wire(ABC):
    """Both directions of one connection, to be closed by `aclose`.

    Every method raises `trio.BrokenResourceError` once the peer is gone and
    `trio.ClosedResourceError` after `aclose`.
    """

    #: Who is at the other end, for the logs; never parsed.
    peer: str
    #: Whether all that was taken has left this process.
    is_flushed: bool
    #: Whether nobody on the way can read what it carries, or that is accepted: only then tokens are taken.
    is_private: bool = True
    #: Whom the handshake has shown the peer to be, by a certificate; None for nobody.
    identity: Identity | None = None
    #: The peer's IP address; None where it has none.
    address: IpAddress | None = None

    @property
    def is_encrypted(self) -> bool:
        """Whether `handshake` is one of TLS."""
        return False

    def certificate(self) -> Mapping[str, Any] | None:
        """Return the peer's certificate as `ssl.SSLSocket.getpeercert` does; None if it has shown none."""
        return None

    @property
    def direct(self) -> Callable[[bytes], int] | None:
        """What `try_send` comes down to while it is flushed: it raises OSError instead. None if there is more to it."""
        return None

    @abstractmethod
    async def handshake(self) -> None:
        """Do what comes before the first byte: the TLS handshake, or nothing."""

    @abstractmethod
    def try_send(self, data: bytes) -> int:
        """Send what can be sent without waiting; return how many bytes were taken, maybe 0."""

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait until `try_send` may take something. Always a checkpoint.

        When cancelled, a stream may have sent a part of what it had taken:
        then the wire is broken. A socket is as it was.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until it has. Always a checkpoint; cancelled like `wait_writable`."""

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`, and wait until it has left this process. When cancelled, some of it was sent."""
        while data := data[self.try_send(data) :]:
            await self.wait_writable()
        await self.flush()

    @abstractmethod
    async def receive(self, limit: int) -> bytes:
        """Return the next bytes, `limit` at most; b"" is the end. Always a checkpoint."""

    @abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that nothing more will come, where the wire can tell that."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close it, without ceremony. Idempotent; done even when cancelled."""


def make_buffer() -> memoryview:
    """Return memory to read into, for any number of wires of one Trio run.

    A buffer of its own for each read, most of which is given back at once,
    would leave the heap full of holes: a test by the hour has seen it grow.
    """
    return memoryview(bytearray(_READ))


@define(eq=False)
class SocketWire(Wire):
    """A non-blocking stream socket, plain or (with a `context`) encrypted.

    Both kinds are driven alike: try, and where the kernel says "not now",
    wait until the socket is readable or writable and try again. So reading
    waits for one thing and writing for the other, and never for the same.
    """

    sock: socket.socket = field(repr=False)
    peer: str
    is_private: bool = True
    address: IpAddress | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False)
    buffer: memoryview = field(factory=make_buffer, repr=False)  # nothing is in it between two steps
    is_flushed: bool = field(default=True, init=False)  # not while the kernel has not taken all of …
    _unsent: bytes = field(default=b"", repr=False)  # … what OpenSSL has encrypted
    _tls: ssl.SSLObject | None = field(default=None, init=False, repr=False)
    _incoming: ssl.MemoryBIO = field(init=False, repr=False)  # (these two only with a context)
    _outgoing: ssl.MemoryBIO = field(init=False, repr=False)
    _is_empty: bool = False  # whether a read has just taken all that there was
    _dataless: int = 0  # bytes of ciphertext that have not been, or not been needed for, what `receive` has returned
    _record: int = _OLD_RECORD  # bytes that a record may have besides data
    _closed: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether `handshake` is one of TLS."""
        return self.context is not None

    @property
    def direct(self) -> Callable[[bytes], int] | None:
        """The socket's own `send`, unless something has to be encrypted."""
        return self.sock.send if self.context is None else None

    def certificate(self) -> Mapping[str, Any] | None:
        """Return what the client has shown, if the context has asked for it and found it right."""
        return None if self._tls is None else self._tls.getpeercert() or None

    async def handshake(self) -> None:
        """Shake hands if there is a context. Until then the wire carries what comes before TLS."""
        if self.context is None:
            return
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        try:
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._send_encrypted()
                    if not await self._receive_encrypted():
                        raise trio.BrokenResourceError("the peer went away in the TLS handshake") from None
                else:
                    await self._send_encrypted()
                    self._record = _RECORD.get(tls.version() or "", _OLD_RECORD)
                    return
        except (OSError, ValueError) as error:
            self._collect()
            with contextlib.suppress(OSError):
                self.sock.send(self._unsent)  # the alert that says why
            raise trio.BrokenResourceError(f"TLS handshake failed: {error}") from error

    async def _send_encrypted(self) -> None:
        """Send what OpenSSL has to say, whole."""
        self._collect()
        while self._unsent:
            self._push()
            if self._unsent:
                await trio.lowlevel.wait_writable(self.sock)

    async def _receive_encrypted(self) -> bool:
        """Give OpenSSL what there is, or wait for it; False at the end."""
        while True:
            if self._closed:
                raise trio.ClosedResourceError("the connection is closed")
            try:
                count = self.sock.recv_into(self.buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock)
            else:
                self._incoming.write(self.buffer[:count])
                return bool(count)

    def _collect(self) -> None:
        """Take over what OpenSSL has encrypted.

        Raises:
            trio.BrokenResourceError: the peer makes it answer (KeyUpdate) and does not take the answers.
        """
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
            self.is_flushed = False
            if len(self._unsent) > _MAX_UNSENT:
                raise trio.BrokenResourceError("the peer takes none of OpenSSL's answers")

    def _push(self) -> None:
        """Send what the kernel takes of it."""
        try:
            self._unsent = self._unsent[self.sock.send(self._unsent) :]
        except BlockingIOError:
            return
        self.is_flushed = not self._unsent

    def try_send(self, data: bytes) -> int:
        """Write until all is written or the socket is full."""
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        try:
            if self._tls is None:
                return self.sock.send(data)
            return self._try_send_encrypted(self._tls, data)
        except BlockingIOError:
            return 0
        except (OSError, ValueError) as error:
            raise trio.BrokenResourceError(f"the peer is gone: {error}") from error

    def _try_send_encrypted(self, tls: ssl.SSLObject, data: bytes) -> int:
        """Encrypt a piece, send it, and go on while the kernel takes all of it. What is encrypted counts as taken.

        OpenSSL writes into memory, which always takes everything. On the
        socket itself it would insist on finishing a record that the kernel
        has not taken, and fail with "bad length" when a KeyUpdate has to be
        answered meanwhile.
        """
        if self._unsent:
            self._push()
        taken = 0
        view = memoryview(data)
        while not self._unsent and taken < len(data):
            taken += tls.write(view[taken : taken + _TLS_PIECE])
            self._collect()
            self._push()
        return taken

    async def wait_writable(self) -> None:
        """Wait for room in the kernel's buffer."""
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        await trio.lowlevel.wait_writable(self.sock)

    async def flush(self) -> None:
        """Wait until the kernel has all of what was encrypted."""
        await trio.lowlevel.checkpoint()
        while self._unsent:
            await self.wait_writable()
            self.try_send(b"")

    async def receive(self, limit: int) -> bytes:
        """Read what is there, or wait for it. When cancelled, nothing was read."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        if self._is_empty:
            await trio.lowlevel.wait_readable(self.sock)
            waited = True
        while True:
            if self._closed:
                raise trio.ClosedResourceError("the connection is closed")
            try:
                count = self._read(min(limit, _READ))
            except (BlockingIOError, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(self.sock)
                if self._dataless > _MAX_DATALESS:
                    await trio.sleep(1)
                    self._dataless -= _DATALESS_RATE
            except (OSError, ValueError) as error:
                raise trio.BrokenResourceError(f"the peer is gone: {error}") from error
            else:
                data = bytes(self.buffer[:count])
                if not waited:
                    # A peer whose bytes are always there already must not keep others from their turn.
                    # Shielded: what was read would be lost.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                # (OpenSSL may hold back the rest of what it was given.)
                self._is_empty = count < min(limit, _READ) and self._tls is None
                return data
            waited = True

    def _read(self, limit: int) -> int:
        """Read into the buffer what there is; return how much that was, 0 at the end."""
        if self._tls is None:
            return self.sock.recv_into(self.buffer, limit)
        return self._decrypt(self._tls, limit)

    def _decrypt(self, tls: ssl.SSLObject, limit: int) -> int:
        """Read what OpenSSL makes of what there is; 0 at the end, with or without a close_notify.

        A KeyUpdate costs as much as several requests, and brings nothing that
        a meter would see. OpenSSL does not say that one came: but ciphertext
        of which no data has become was one, or a request to renegotiate.

        Raises:
            ssl.SSLWantReadError: there was too much of that, and nothing more is taken for now.
        """
        while True:
            try:
                count = cast("int", tls.read(limit, self.buffer))  # (typeshed knows of one of its two forms only)
            except ssl.SSLWantReadError:
                self._collect()
                if self._unsent:
                    self._push()
                if self._dataless > _MAX_DATALESS:
                    raise
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            else:
                self._dataless = max(0, self._dataless - count - self._record)
                return count
            count = self.sock.recv_into(self.buffer, _TLS_READ)
            if not count:
                return 0
            self._dataless += count
            self._incoming.write(self.buffer[:count])

    async def send_eof(self) -> None:
        """Half-close the TCP connection.

        TLS says nothing more itself: a close_notify can only be sent through
        `SSLObject.unwrap`, which waits for the peer's. The WebSocket Close
        has told it the same.
        """
        await trio.lowlevel.checkpoint()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the socket."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()
        await trio.lowlevel.cancel_shielded_checkpoint()


@define(eq=False)
class StreamWire(Wire):
    """Any Trio stream: memory, a simulated network."""

    stream: trio.abc.Stream = field(repr=False)
    peer: str = "stream"
    is_flushed: bool = field(default=True, init=False)
    _unsent: bytes = field(default=b"", repr=False)  # taken, and not yet given to the stream whole
    _is_broken: bool = False
    _closed: bool = False

    async def handshake(self) -> None:
        """Nothing: a stream that needs one does it by itself."""
        await trio.lowlevel.checkpoint()

    def try_send(self, data: bytes) -> int:
        """Take a piece if the one before has been sent."""
        self._check()
        if not self._unsent:
            self._unsent = bytes(data[:_STREAM_PIECE])
            self.is_flushed = not self._unsent
            return len(self._unsent)
        return 0

    async def wait_writable(self) -> None:
        """Give the stream what was taken."""
        self._check()
        if not self._unsent:
            await trio.lowlevel.checkpoint()
            return
        self._is_broken = True
        await self.stream.send_all(self._unsent)
        self._is_broken, self._unsent, self.is_flushed = False, b"", True

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        if self._is_broken:
            raise trio.BrokenResourceError("a send was cut off half way")

    async def flush(self) -> None:
        """Give the stream what was taken."""
        await self.wait_writable()

    async def receive(self, limit: int) -> bytes:
        """Pass on what the stream gives."""
        return bytes(await self.stream.receive_some(limit))

    async def send_eof(self) -> None:
        """Half-close the stream if it can."""
        if isinstance(self.stream, trio.abc.HalfCloseableStream):
            await self.stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close it without waiting for the peer."""
        self._closed = True
        await trio.aclose_forcefully(self.stream)

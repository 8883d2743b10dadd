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
from collections.abc import Mapping
from typing import Any

import trio
from attrs import define, field

from ..core import Identity
from .networks import IpAddress

# What OpenSSL encrypts in one go (RFC 8446, 5.1): once it has begun with a
# piece, it wants that very piece again until the socket has taken it.
_TLS_RECORD = 16 * 1024
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


@define(eq=False)
class SocketWire(Wire):
    """A non-blocking stream socket, plain or (an `ssl.SSLSocket`) encrypted.

    Both kinds are driven alike: try, and where the kernel or OpenSSL says
    "not now", wait until the socket is readable or writable and try again.
    """

    sock: socket.socket = field(repr=False)
    peer: str
    is_private: bool = True
    address: IpAddress | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False)
    is_flushed: bool = field(default=True, init=False)  # not while OpenSSL has begun with …
    _unsent: bytes = field(default=b"", repr=False)  # … a record
    _wants_read: bool = False  # whether OpenSSL must read before it can write on
    _is_empty: bool = False  # whether a read has just taken all that there was
    _closed: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether `handshake` is one of TLS."""
        return self.context is not None or isinstance(self.sock, ssl.SSLSocket)

    def certificate(self) -> Mapping[str, Any] | None:
        """Return what the client has shown, if the context has asked for it and found it right."""
        return (self.sock.getpeercert() or None) if isinstance(self.sock, ssl.SSLSocket) else None

    async def handshake(self) -> None:
        """Shake hands if there is a context. Until then the wire carries what comes before TLS."""
        if self.context is not None and not isinstance(self.sock, ssl.SSLSocket):
            try:
                # Of one that was reset, `wrap_socket` raises and leaves another socket behind, unclosed.
                self.sock.getpeername()
                self.sock = self.context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            except (OSError, ValueError) as error:
                raise trio.BrokenResourceError(f"the peer is gone: {error}") from error
        if not isinstance(self.sock, ssl.SSLSocket):
            return
        while True:
            try:
                self.sock.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self.sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.sock)
            except (OSError, ValueError) as error:
                raise trio.BrokenResourceError(f"TLS handshake failed: {error}") from error
            else:
                return

    def try_send(self, data: bytes) -> int:
        """Write until all is written or the socket is full."""
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        try:
            if not isinstance(self.sock, ssl.SSLSocket):
                return self.sock.send(data)
            return self._try_send_encrypted(self.sock, data)
        except BlockingIOError:
            return 0
        except (OSError, ValueError) as error:
            raise trio.BrokenResourceError(f"the peer is gone: {error}") from error

    def _try_send_encrypted(self, sock: ssl.SSLSocket, data: bytes) -> int:
        """Write record by record.

        A record that OpenSSL has begun with is kept here and counts as taken.
        """
        taken = 0
        view = memoryview(data)
        while True:
            record = self._unsent or bytes(view[taken : taken + _TLS_RECORD])
            if not record:
                self.is_flushed = True
                return taken
            if not self._unsent:
                self._unsent = record
                taken += len(record)
                self.is_flushed = False
            try:
                written = sock.send(record)
            except ssl.SSLWantWriteError:
                self._wants_read = False
                return taken
            except ssl.SSLWantReadError:
                self._wants_read = True
                return taken
            self._unsent = record[written:]

    async def wait_writable(self) -> None:
        """Wait for room in the kernel's buffer, or for what OpenSSL must read first."""
        if self._closed:
            raise trio.ClosedResourceError("the connection is closed")
        if self._wants_read:
            self._wants_read = False
            await trio.lowlevel.wait_readable(self.sock)
        else:
            await trio.lowlevel.wait_writable(self.sock)

    async def flush(self) -> None:
        """Let OpenSSL finish its record."""
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
                data = self.sock.recv(limit)
            except (BlockingIOError, ssl.SSLWantReadError):
                await trio.lowlevel.wait_readable(self.sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.sock)
            except (OSError, ValueError) as error:
                raise trio.BrokenResourceError(f"the peer is gone: {error}") from error
            else:
                if not waited:
                    # A peer whose bytes are always there already must not keep others from their turn.
                    # Shielded: what was read would be lost.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                # (OpenSSL may hold back the rest of what it has read from the socket.)
                self._is_empty = len(data) < limit and not isinstance(self.sock, ssl.SSLSocket)
                return data
            waited = True

    async def send_eof(self) -> None:
        """Half-close the TCP connection.

        TLS says nothing more itself: a close_notify can only be sent through
        `SSLSocket.unwrap`, which waits for the peer's. The WebSocket Close
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

"""Arriving: many clients connect and introduce themselves, a number of them at a time."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence

from attrs import define, frozen

from .dialect import Step
from .process import BrokerError

# Arrivals under way at once: the broker always has a next one, and no backlog overflows.
_AT_ONCE = 64
_PER_SOURCE = 5000  # connections from one loopback address; 127.0.0.1 alone runs out of ports
_READ = 64 * 1024
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PATIENCE = 20.0  # seconds without any progress
_READABLE, _WRITABLE = select.EPOLLIN, select.EPOLLOUT


@frozen
class Guests:
    """Where to arrive, and how."""

    address: tuple[str, int]
    context: ssl.SSLContext | None = None


@define(eq=False)
class _Guest:
    """A client on its way."""

    sock: socket.socket
    steps: list[Step]
    unsent: bytes = b""
    heard: bytes = b""

    def begin(self) -> None:
        self.heard = b""
        if self.steps:
            self.unsent = self.steps[0].send
            self.send()

    @property
    def interest(self) -> int:
        return _READABLE | _WRITABLE if self.unsent else _READABLE

    def send(self) -> None:
        with contextlib.suppress(*_NOT_NOW):
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]

    def receive(self) -> None:
        """Read what is there, and go on to the next step when the answer is whole."""
        with contextlib.suppress(*_NOT_NOW):
            while data := self.sock.recv(_READ):
                self.heard += data
                if isinstance(self.sock, ssl.SSLSocket):
                    continue  # more may be decrypted already, which epoll knows nothing of
                break
            else:
                raise BrokerError(f"the broker closed a new connection after {self.heard[-200:]!r}")
        step = self.steps[0]
        if self.heard.count(step.until) >= step.times:
            del self.steps[0]
            self.begin()


def arrive(guests: Guests, scripts: Sequence[Sequence[Step]]) -> list[socket.socket]:
    """Connect a client for each script and walk through its steps; return the sockets, non-blocking, in order.

    Raises:
        BrokerError: the broker closed one, or nothing happened for long.
    """
    arrived: list[socket.socket] = []
    try:
        with select.epoll() as epoll:
            _let_in(guests, scripts, arrived, epoll)
    except OSError as error:
        depart(arrived)
        raise BrokerError(f"cannot connect: {error}") from error
    except BrokerError:
        depart(arrived)
        raise
    return arrived


def _let_in(
    guests: Guests, scripts: Sequence[Sequence[Step]], arrived: list[socket.socket], epoll: select.epoll
) -> None:
    under_way: dict[int, _Guest] = {}  # {descriptor: guest}
    progress = time.monotonic()
    while len(arrived) < len(scripts) or under_way:
        while len(under_way) < _AT_ONCE and len(arrived) < len(scripts):
            sock = _connect(guests, len(arrived))
            guest = _Guest(sock, list(scripts[len(arrived)]))
            arrived.append(sock)
            guest.begin()
            if guest.steps:
                under_way[sock.fileno()] = guest
                epoll.register(sock, guest.interest)
        for descriptor, _ in epoll.poll(1):
            progress = time.monotonic()
            guest = under_way[descriptor]
            guest.send()
            guest.receive()
            if guest.steps:
                epoll.modify(descriptor, guest.interest)
            else:
                epoll.unregister(descriptor)
                del under_way[descriptor]
        if time.monotonic() > progress + _PATIENCE:
            waiting = next(iter(under_way.values()))
            raise BrokerError(f"no answer for {_PATIENCE:g} s: {waiting.steps[0]}, heard {waiting.heard[-200:]!r}")


def _connect(guests: Guests, number: int) -> socket.socket:
    """Return a connected socket. Over loopback that takes no time: the kernel answers from the backlog."""
    source = f"127.0.0.{1 + number // _PER_SOURCE}"
    sock = socket.create_connection(guests.address, timeout=_PATIENCE, source_address=(source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if guests.context is not None:
        sock = guests.context.wrap_socket(sock, server_hostname="127.0.0.1")
    sock.setblocking(False)
    return sock


def depart(socks: Sequence[socket.socket]) -> None:
    """Close them all."""
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.close()

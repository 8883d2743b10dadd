"""The crowd: the subscribers of a measurement, and what has arrived at them.

Some of them, spread evenly, are *marked*: they are read at once, and what all
of them have got counts as delivered. The others are read in turns whenever
enough may have arrived, so that a read is worth its system call; at the end
they are read to the last byte. Nothing is parsed: `Counter` counts markers.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from attrs import define, field

from .payload import Counter
from .process import BrokerError

_MARKED = 16
_BUFFER = 256 * 1024
_UNREAD = 24 * 1024  # bytes that may wait in a socket; its buffer holds five times that
_TURN = 32  # sockets read before the marked ones are looked at again
_NOTHING = (BlockingIOError, ssl.SSLWantReadError)

Receive = Callable[[bytearray], int]
"""Reads into a buffer what is there; returns how many bytes."""


@define(eq=False)
class Crowd:
    """Reads from subscribers.

    Attributes:
        socks: all of them, in the order in which they subscribed.
        everything: how many of them, from the first, get every message; marked ones are among these.
        message_bytes: about how large a delivery is.
        others: connections that are no subscribers, but may be sent something.
        arrived: messages that every marked subscriber has got.
        rest: deliveries to the others.
    """

    socks: Sequence[socket.socket]
    everything: int
    message_bytes: int
    others: Sequence[socket.socket] = ()
    arrived: int = 0
    rest: int = 0
    marked: list[int] = field(init=False)  # indices
    is_encrypted: bool = field(init=False)
    _counts: dict[int, int] = field(factory=dict, init=False)  # {descriptor: deliveries}
    _readers: dict[int, tuple[Receive, Counter]] = field(factory=dict, init=False)  # {descriptor: …}
    _unmarked: list[tuple[Receive, Counter]] = field(factory=list, init=False)
    _epoll: select.epoll = field(factory=select.epoll, init=False)
    _buffer: bytearray = field(factory=lambda: bytearray(_BUFFER), init=False)
    _swept: int = 0  # `arrived` when the last round of reading the unmarked began
    _next: int = 0  # the next unmarked one to be read in this round
    _worthwhile: int = 1

    def __attrs_post_init__(self) -> None:
        self.is_encrypted = isinstance(self.socks[0], ssl.SSLSocket)
        count = min(_MARKED, self.everything)
        last = self.everything - 1
        self.marked = [index * last // max(count - 1, 1) for index in range(count)]
        for index in self.marked:
            sock = self.socks[index]
            self._counts[sock.fileno()] = 0
            self._readers[sock.fileno()] = (_receiver(sock), Counter())
            self._epoll.register(sock, select.EPOLLIN)
        is_marked = set(self.marked)
        rest = [sock for index, sock in enumerate(self.socks) if index not in is_marked]
        # Of encrypted ones that are not marked the ciphertext is taken, and not looked into.
        self._unmarked = [(_raw_receiver(sock), Counter()) for sock in [*rest, *self.others]]
        self._next = len(self._unmarked)
        self._worthwhile = max(1, _UNREAD // self.message_bytes)

    def look(self) -> int:
        """Read the marked ones that have something; return how many there were."""
        events = self._epoll.poll(0)
        buffer, counts, readers = self._buffer, self._counts, self._readers
        for descriptor, _ in events:
            receive, counter = readers[descriptor]
            size = receive(buffer)
            counts[descriptor] += counter.count(buffer, size)
        if events:
            self.arrived = min(counts.values())
        return len(events)

    def take_turn(self) -> bool:
        """Read some of the unmarked ones, if it is time to; return whether any were read."""
        if self._next >= len(self._unmarked):
            if self.arrived - self._swept < self._worthwhile or not self._unmarked:
                return False
            self._next, self._swept = 0, self.arrived
        turn = self._unmarked[self._next : self._next + _TURN]
        self._next += _TURN
        self._read(turn)
        return True

    def _read(self, readers: Sequence[tuple[Receive, Counter]]) -> int:
        """Read from each once; return how many had nothing."""
        buffer, empty = self._buffer, 0
        for receive, counter in readers:
            try:
                size = receive(buffer)
            except _NOTHING:
                empty += 1
            else:
                self.rest += counter.count(buffer, size)
        return empty

    def settle(self, published: int, copies: int, patience: float) -> None:
        """Read until every delivery of `published` messages has arrived.

        Raises:
            BrokerError: some are missing after `patience` seconds, or there were too many.
        """
        expected = published * (copies - len(self.marked))
        deadline = time.monotonic() + patience
        while self.arrived < published or (self.rest < expected and not self.is_encrypted):
            self.look()
            self._read(self._unmarked)
            if time.monotonic() > deadline:
                break
        self._read(self._unmarked)
        counts = set(self._counts.values())
        if counts != {published} or (self.rest != expected and not self.is_encrypted):
            raise BrokerError(
                f"of {published} messages {min(counts)} to {max(counts)} arrived at the marked subscribers, "
                f"and {self.rest} of {expected} deliveries at the others"
            )

    def reset(self) -> None:
        """Count from zero again."""
        self._counts = dict.fromkeys(self._counts, 0)
        self.arrived = self.rest = self._swept = 0
        self._next = len(self._unmarked)

    def close(self) -> None:
        self._epoll.close()


def _receiver(sock: socket.socket) -> Receive:
    if not isinstance(sock, ssl.SSLSocket):

        def receive(buffer: bytearray) -> int:
            return _alive(sock.recv_into(buffer))

        return receive

    def decrypt(buffer: bytearray) -> int:
        """Read record by record, all that there are: epoll knows nothing of what OpenSSL has in hand."""
        view, size = memoryview(buffer), 0
        with contextlib.suppress(ssl.SSLWantReadError):
            while size < _BUFFER:
                size += _alive(sock.recv_into(view[size:]))
        return size

    return decrypt


def _raw_receiver(sock: socket.socket) -> Receive:
    def receive(buffer: bytearray) -> int:
        return _alive(socket.socket.recv_into(sock, buffer))

    return receive


def _alive(size: int) -> int:
    if not size:
        raise BrokerError("the broker closed a connection")
    return size

"""The open loop: messages are published at their times, whatever the broker does, and their latency is taken.

A message is late from the moment at which it was *due*, not from the one at
which the load came to send it: a broker that holds the load up does not hide
its own delay by that.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from attrs import define, field, frozen

from .payload import NumberReader
from .process import BrokerError

_READ = 64 * 1024
_PATIENCE = 10.0  # seconds for the last message to arrive
_SLACK = 0.002  # seconds before the next message is due in which nothing else is begun


@frozen
class Latency:
    """Seconds from due to received, over all messages and listeners."""

    p50: float
    p99: float
    longest: float
    messages: int

    @classmethod
    def of(cls, latencies: Sequence[float], messages: int) -> Latency:
        ordered = sorted(latencies)
        return cls(
            p50=ordered[len(ordered) // 2],
            p99=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
            longest=ordered[-1],
            messages=messages,
        )


def nothing_else() -> None:
    """Do nothing between messages."""


@define(eq=False)
class OpenLoop:
    """Publishes on one connection at a steady rate and listens on some.

    Attributes:
        publisher: the connection that publishes.
        listeners: subscribers at which every message's arrival is timed.
        frames: one for each message, with its number.
        interval: seconds between two messages.
        meanwhile: called over and over while no message is due; must take less than a millisecond.
    """

    publisher: socket.socket
    listeners: Sequence[socket.socket]
    frames: Sequence[bytes] = field(repr=False)
    interval: float
    meanwhile: Callable[[], object] = nothing_else
    always: bool = False
    _readers: dict[int, NumberReader] = field(factory=dict, init=False)  # {descriptor: reader}
    _latencies: list[float] = field(factory=list, init=False, repr=False)

    def run(self) -> Latency:
        """Publish all messages.

        Raises:
            BrokerError: a message did not arrive, arrived twice or out of order.
        """
        by_descriptor = {sock.fileno(): sock for sock in self.listeners}
        expected = dict.fromkeys(by_descriptor, 0)  # {descriptor: the next number}
        self._readers = {descriptor: NumberReader() for descriptor in by_descriptor}
        buffer = bytearray(_READ)
        total = len(self.frames)
        with select.epoll() as epoll:
            for descriptor in by_descriptor:
                epoll.register(descriptor, select.EPOLLIN)
            start = time.monotonic() + self.interval
            sent = arrived = 0
            deadline = start + total * self.interval + _PATIENCE
            while arrived < total * len(by_descriptor):
                now = time.monotonic()
                if sent < total and now >= start + sent * self.interval:
                    self._send(self.frames[sent])
                    sent += 1
                for descriptor, _ in epoll.poll(0):
                    size = by_descriptor[descriptor].recv_into(buffer)
                    numbers = self._readers[descriptor].read(buffer, size)
                    now = time.monotonic()
                    for number in numbers:
                        self._check(number, expected, descriptor)
                        self._latencies.append(now - start - number * self.interval)
                    arrived += len(numbers)
                if self.always or (
                    arrived == sent * len(by_descriptor) and now < start + sent * self.interval - _SLACK
                ):
                    self.meanwhile()
                if now > deadline:
                    raise BrokerError(f"{arrived} of {total * len(by_descriptor)} timed deliveries arrived")
        return Latency.of(self._latencies, total)

    def _send(self, frame: bytes) -> None:
        """Send a whole frame; it is small, and the broker reads."""
        while frame:
            try:
                frame = frame[self.publisher.send(frame) :]
            except BlockingIOError:
                select.select([], [self.publisher], [], 1)

    @staticmethod
    def _check(number: int, expected: dict[int, int], descriptor: int) -> None:
        if number != expected[descriptor]:
            raise BrokerError(f"message {expected[descriptor]} was due at a subscriber, {number} came")
        expected[descriptor] += 1

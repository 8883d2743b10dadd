"""The closed loop: a number of messages is kept in flight, and the broker is as busy as it can be.

In flight is what was published and has not arrived at every marked subscriber.
A measurement begins and ends with nothing in flight and everything read, so
that the processor time belongs to exactly the deliveries that are counted.

The load polls and never sleeps: waking a sleeping receiver would be charged to
the broker that sends. How busy it was is told by how often it looked in vain.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence

from attrs import define, field, frozen

from .cores import Cores
from .crowd import Crowd
from .process import BrokerError, BrokerProcess

_PATIENCE = 15.0  # seconds for what is in flight to arrive
_CALIBRATION = 0.02  # seconds
_STALL = 10.0  # seconds in which nothing arrives
_NOT_NOW = (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError)


@frozen
class Throughput:
    """What a closed loop has measured. Times are seconds.

    Attributes:
        unused: time of the broker's core that nobody used.
        load: processor time of the load …
        idle: … and how much of it was spent looking in vain.
    """

    messages: int
    deliveries: int
    wall: float
    processor: float
    system: float
    unused: float
    load: float
    idle: float


@define(eq=False)
class Publishers:
    """Sends prebuilt frames in turn, from several connections in turn, without ever waiting."""

    socks: Sequence[socket.socket]
    frames: Sequence[bytes]
    published: int = 0
    _unsent: dict[int, bytes] = field(factory=dict, init=False)  # {index of the connection: bytes}

    def publish(self, count: int) -> None:
        """Publish the next `count` messages: message n goes out on connection n modulo their number."""
        connections = len(self.socks)
        for offset in range(min(connections, count)):
            first = self.published + offset
            self._send(first % connections, self._batch(first, (count - offset + connections - 1) // connections))
        self.published += count

    def _batch(self, first: int, count: int) -> bytes:
        frames, step = self.frames, len(self.socks)
        if len(frames) == 1:
            return frames[0] * count
        return b"".join([frames[(first + index * step) % len(frames)] for index in range(count)])

    def _send(self, index: int, data: bytes) -> None:
        data = self._unsent.pop(index, b"") + data
        try:
            sent = self.socks[index].send(data)
        except _NOT_NOW:
            sent = 0
        if sent < len(data):
            self._unsent[index] = data[sent:]

    def push(self) -> None:
        """Go on with what a socket did not take."""
        for index in list(self._unsent):
            self._send(index, b"")


@define(eq=False)
class ClosedLoop:
    """Keeps `window` messages in flight.

    Attributes:
        copies: deliveries of each message.
    """

    process: BrokerProcess
    cores: Cores
    publishers: Publishers
    crowd: Crowd
    window: int
    copies: int

    def run(self, seconds: float) -> Throughput:
        """Publish for so long, and wait for the last delivery.

        Raises:
            BrokerError: a delivery is missing, or nothing arrives any more.
        """
        self.publishers.published = 0
        self.crowd.reset()
        cores, load = self.cores, time.process_time()
        unused = cores.unused()
        before, began = self.process.processor_time(), time.monotonic()
        vain = self._keep_in_flight(began + seconds)
        self._wait_for_the_last()
        after, ended = self.process.processor_time(), time.monotonic()
        messages = self.publishers.published
        return Throughput(
            messages=messages,
            deliveries=messages * self.copies,
            wall=ended - began,
            processor=after.total - before.total,
            system=after.system - before.system,
            unused=cores.unused() - unused,
            load=time.process_time() - load,
            idle=vain * self._cost_of_a_look(),
        )

    def _keep_in_flight(self, end: float) -> int:
        """Return how often there was nothing to do."""
        publishers, crowd, window = self.publishers, self.crowd, self.window
        look, take_turn, now = crowd.look, crowd.take_turn, time.monotonic
        vain, progress = 0, now()
        while (instant := now()) < end:
            room = window - publishers.published + crowd.arrived
            if room:
                publishers.publish(room)
                progress = instant
            busy = look()
            if not take_turn() and not busy:
                vain += 1
                publishers.push()
                if instant > progress + _STALL:
                    raise BrokerError(f"nothing arrived for {_STALL:g} s after {crowd.arrived} messages")
        return vain

    def _wait_for_the_last(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self.crowd.arrived < self.publishers.published and time.monotonic() < deadline:
            self.publishers.push()
            if not self.crowd.look():
                self.crowd.take_turn()
        self.crowd.settle(self.publishers.published, self.copies, _PATIENCE)

    def _cost_of_a_look(self) -> float:
        """Return what it costs to look in vain, in seconds of processor time: the same loop, with nothing to do."""
        window, self.window = self.window, 0
        began = time.process_time()
        vain = self._keep_in_flight(time.monotonic() + _CALIBRATION)
        used = time.process_time() - began
        self.window = window
        return used / max(vain, 1)

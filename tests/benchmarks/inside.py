"""The way of a message through the broker without sockets: `python -m tests.benchmarks.inside`.

Processor time of this process for reading frames, serving them and flushing
outboxes whose wire takes everything at once. What a real broker needs beyond
that is Trio's and the kernel's.
"""

from __future__ import annotations

import argparse
import os
import random
import time

import trio
from attrs import define

from tercet_broker.core import Broker, BrokerSettings
from tercet_broker.runtime.clock import SystemClock
from tercet_broker.runtime.endpoint import SessionEndpoint
from tercet_broker.runtime.flusher import Flusher
from tercet_broker.runtime.frames import FrameReader
from tercet_protocol import CloseCode, apply_mask

from .frames import TEXT, client_frame

WORKS = ((1, 64), (10, 64), (100, 16), (1000, 4))  # (subscribers, messages in a chunk)
_MESSAGES = 20_000  # about, for each measurement; deliveries where those are more
_BEST_OF = 5


@define(eq=False)
class _Connection:
    """A connection whose socket takes everything: its session's carrier, and flushable."""

    flusher: Flusher
    endpoint: SessionEndpoint | None = None

    def wake(self) -> None:
        self.flusher.add(self)

    def close(self, code: CloseCode, reason: str) -> None:
        raise RuntimeError(f"closed with {code}: {reason}")

    def authenticate(self, token: str, answer: object) -> None:
        raise NotImplementedError("nobody is asked who they are")

    def flush(self, now: float) -> int:  # noqa: ARG002 - a link notes it
        assert self.endpoint is not None
        size = len(self.endpoint.outbox.peek(1 << 20))
        self.endpoint.outbox.sent(size)
        return size


def _open(broker: Broker, flusher: Flusher, requests: list[bytes]) -> SessionEndpoint:
    connection = _Connection(flusher)
    connection.endpoint = endpoint = SessionEndpoint.open(broker, SystemClock(), connection)
    endpoint.outbox.write = len
    for request in [b'{"op":"connect"}', *requests]:
        endpoint.receive(request, is_text=True)
    return endpoint


def measure(subscribers: int, chunk: int) -> float:
    """Return processor µs for each message, its deliveries included. To be called within a Trio run."""
    broker = Broker(BrokerSettings(), random.Random(1))
    flusher = Flusher(broker.fan_out)
    broker.fan_out.settle_soon = flusher.call
    for _ in range(subscribers):
        _open(broker, flusher, [b'{"op":"subscribe","id":1,"filter":"bench/topic"}'])
    publisher, reader = _open(broker, flusher, []), FrameReader(1 << 20)
    publish = b'{"op":"publish","topic":"bench/topic","data":"%b"}' % (b"x" * 128)
    data = client_frame(TEXT, publish) * chunk
    rounds = max(1, _MESSAGES // (chunk * max(1, subscribers // 16)))
    best = float("inf")
    for _ in range(_BEST_OF):
        began = time.process_time()
        for _ in range(rounds):
            publisher.look_at_clock()
            reader.feed(data)
            for payload in reader.texts():
                publisher.receive(payload, is_text=True)
            for _ in flusher.flush():
                pass
        best = min(best, time.process_time() - began)
    return best / (rounds * chunk) * 1e6


def measure_frames() -> tuple[float, float]:
    """Return processor µs for reading one frame, and for unmasking it, which is a part of that."""
    reader, key, payload = FrameReader(1 << 20), os.urandom(4), b"x" * 172
    data, times = client_frame(TEXT, payload) * 64, 300

    def read() -> None:
        reader.feed(data)
        for _ in reader.texts():
            pass

    def unmask_all() -> None:
        for _ in range(64):
            apply_mask(payload, key)

    results = []
    for work in (read, unmask_all):
        best = float("inf")
        for _ in range(_BEST_OF):
            began = time.process_time()
            for _ in range(times):
                work()
            best = min(best, time.process_time() - began)
        results.append(best / (times * 64) * 1e6)
    return results[0], results[1]


async def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    reading, unmasking = measure_frames()
    print(f"reading a frame      {reading:6.2f} µs, of which unmasking {unmasking:.2f}")  # noqa: T201 - a command
    for subscribers, chunk in WORKS:
        cost = measure(subscribers, chunk)
        each = f"{cost / subscribers:.3f} µs a delivery"
        print(f"1 → {subscribers:<5} {chunk:3} at once {cost:8.2f} µs a message  {each}")  # noqa: T201


if __name__ == "__main__":
    trio.run(main)

"""Measuring: one work, one broker, once."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import assert_never

from attrs import frozen

from .clients import Clients
from .closed_loop import ClosedLoop, Publishers, Throughput
from .crowd import Crowd
from .figures import Figures
from .open_loop import Latency, OpenLoop, nothing_else
from .payload import make_payload
from .peer import Peer, Setting
from .process import ProcessorTime
from .pulse import Pulse
from .works import SMALL, Arriving, Fanout, Idle, Paced, Stall, Work

TOPIC = "bench/x"
_CROWD_TOPIC = "bench/crowd"
_EACH = 1000  # other topics that one connection subscribes to
_TIMED = 5  # subscribers whose latency is taken
_WARM = 50  # connections that come before those that are measured, so that everything is loaded and allocated
_BATCH = 250  # idle connections that come between two looks for pings
_SETTLE = 1.0  # seconds
_BRANCHES, _LEAVES = 100, 10  # the 1,000 topics of the wildcards
_MULTILEVEL = 10  # subscribers to bench/#
_ENVELOPE = 70  # bytes around a payload, about
_MICRO, _MILLI, _PERCENT = 1e6, 1e3, 100


@frozen
class Pace:
    """How long is measured, in seconds, and by how much all counts are divided."""

    seconds: float = 2.0
    warm_up: float = 0.5
    divisor: int = 1

    def scale(self, count: int) -> int:
        return max(1, count // self.divisor)


def measure(work: Work, peer: Peer, setting: Setting, pace: Pace) -> Figures:
    """Start the broker, measure, end it.

    Raises:
        BrokerError: the broker failed at the work, or lost something.
    """
    with peer.run(setting) as process, _without_collector():
        clients = Clients(process, peer.dialect, setting)
        try:
            match work:
                case Fanout():
                    return measure_fanout(work, clients, pace)
                case Paced():
                    return measure_latency(work, clients, pace)
                case Idle():
                    return measure_idle(work, clients, pace)
                case Arriving():
                    return measure_arrivals(work, clients, pace)
                case Stall():
                    return measure_stall(work, clients, pace)
                case _:
                    assert_never(work)
        finally:
            clients.leave()


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from looking for garbage while it measures."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure_fanout(work: Fanout, clients: Clients, pace: Pace) -> Figures:
    count = pace.scale(work.subscribers)
    topics, filters, everything, copies = [TOPIC], [[TOPIC]] * count, count, count
    if work.wildcards:
        topics = [f"bench/{branch}/{leaf}" for branch in range(_BRANCHES) for leaf in range(_LEAVES)]
        singles = work.subscribers - _MULTILEVEL
        filters = [["bench/#"]] * _MULTILEVEL + [[f"bench/+/{index % _LEAVES}"] for index in range(singles)]
        everything, copies = _MULTILEVEL, _MULTILEVEL + singles // _LEAVES
    if work.other_subscriptions:
        own = range(work.other_subscriptions)
        filters = [[TOPIC, *(f"bench/own/{number}/{index}" for index in own)] for number in range(count)]
    others = [f"bench/other/{index}" for index in range(pace.scale(work.other_topics) if work.other_topics else 0)]
    subscribers = clients.subscribe(filters)
    bystanders = clients.subscribe([others[first : first + _EACH] for first in range(0, len(others), _EACH)])
    if work.strangers:
        bystanders += clients.subscribe([["bench/quiet"]] * pace.scale(work.strangers))
    publishers = clients.connect(pace.scale(work.publishers))
    payload = make_payload(work.payload)
    frames = [clients.dialect.publish(topic, payload, retain=work.retain, ack=work.ack) for topic in topics]
    crowd = Crowd(subscribers, everything, work.payload + _ENVELOPE, [*bystanders, *publishers])
    with contextlib.closing(crowd):
        loop = ClosedLoop(
            clients.process, clients.setting.cores, Publishers(publishers, frames), crowd, work.window, copies
        )
        loop.run(pace.warm_up)
        return _throughput(loop.run(pace.seconds))


def _throughput(result: Throughput) -> Figures:
    return {
        "us": result.processor / result.deliveries * _MICRO,
        "system": result.system / result.processor * _PERCENT,
        "rate": result.deliveries / result.wall,
        "busy": result.processor / (result.processor + result.unused) * _PERCENT,
        "load": max(0.0, 1 - result.idle / result.load) * _PERCENT,
        "others": max(0.0, 1 - (result.processor + result.unused) / result.wall) * _PERCENT,
    }


def measure_latency(work: Paced, clients: Clients, pace: Pace) -> Figures:
    count = pace.scale(work.subscribers)
    subscribers = clients.subscribe([[TOPIC]] * count)
    (publisher,) = clients.connect(1)
    timed = sorted({index * (count - 1) // (_TIMED - 1) for index in range(_TIMED)})
    rest = [sock for index, sock in enumerate(subscribers) if index not in timed]
    interval = work.subscribers / work.rate
    with contextlib.ExitStack() as stack:
        meanwhile = nothing_else
        if rest:
            crowd = stack.enter_context(contextlib.closing(Crowd(rest, len(rest), work.payload + _ENVELOPE)))

            def meanwhile() -> None:
                crowd.look()
                crowd.take_turn()

        listeners = [subscribers[index] for index in timed]
        for seconds in (pace.warm_up, pace.seconds):
            frames = _numbered(clients, TOPIC, work.payload, seconds, interval)
            loop = OpenLoop(publisher, listeners, frames, interval, meanwhile)
            before, began = clients.process.processor_time(), time.monotonic()
            latency = loop.run()
            used, wall = _used(clients, before), time.monotonic() - began
    deliveries = latency.messages * count
    return _latency(latency) | {"us": used / deliveries * _MICRO, "rate": deliveries / wall}


def _numbered(clients: Clients, topic: str, size: int, seconds: float, interval: float) -> list[bytes]:
    messages = max(1, int(seconds / interval))
    return [clients.dialect.publish(topic, make_payload(size, number)) for number in range(messages)]


def _used(clients: Clients, before: ProcessorTime) -> float:
    return clients.process.processor_time().total - before.total


def _latency(latency: Latency) -> Figures:
    return {"p50": latency.p50 * _MILLI, "p99": latency.p99 * _MILLI, "max": latency.longest * _MILLI}


def measure_idle(work: Idle, clients: Clients, pace: Pace) -> Figures:
    count = pace.scale(work.connections)
    settle = _SETTLE / pace.divisor
    with contextlib.closing(Pulse()) as pulse:
        pulse.add(clients.subscribe([[TOPIC]] * pace.scale(_WARM)))
        pulse.answer(settle)
        empty = clients.process.resident_kib()
        for first in range(0, count, _BATCH):
            pulse.add(clients.subscribe([[TOPIC]] * min(_BATCH, count - first)))
            pulse.answer(0)
        pulse.answer(settle)
        figures = {"kib": (clients.process.resident_kib() - empty) / count}
        if work.seconds:
            before, began = clients.process.processor_time(), time.monotonic()
            pulse.answer(work.seconds / pace.divisor)
            figures["busy"] = _used(clients, before) / (time.monotonic() - began) * _PERCENT
    return figures


def measure_arrivals(work: Arriving, clients: Clients, pace: Pace) -> Figures:
    clients.connect(pace.scale(_WARM))
    count = pace.scale(work.connections)
    before, began = clients.process.processor_time(), time.monotonic()
    clients.connect(count)
    used, wall = _used(clients, before), time.monotonic() - began
    return {"us": used / count * _MICRO, "rate": count / wall, "busy": used / wall * _PERCENT}


def measure_stall(work: Stall, clients: Clients, pace: Pace) -> Figures:
    """Publish to the crowd again as soon as a message has arrived, so that the broker is always in the midst of it."""
    count = pace.scale(work.subscribers)
    subscribers = clients.subscribe([[_CROWD_TOPIC]] * count)
    listeners = clients.subscribe([[TOPIC]] * _TIMED)
    publisher, crowd_publisher = clients.connect(2)
    frame = clients.dialect.publish(_CROWD_TOPIC, make_payload(SMALL))
    publishers = Publishers([crowd_publisher], [frame])
    with contextlib.closing(Crowd(subscribers, count, SMALL + _ENVELOPE)) as crowd:

        def keep_busy() -> None:
            if crowd.arrived == publishers.published:
                publishers.publish(1)
            crowd.look()
            crowd.take_turn()

        for seconds in (pace.warm_up, pace.seconds):
            frames = _numbered(clients, TOPIC, SMALL, seconds, work.interval)
            messages, began = crowd.arrived, time.monotonic()
            loop = OpenLoop(publisher, listeners, frames, work.interval, keep_busy, always=True)
            latency = loop.run()
            rate = (crowd.arrived - messages) * count / (time.monotonic() - began)
    return _latency(latency) | {"rate": rate}

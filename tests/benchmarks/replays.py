"""How long the steps of replays, snapshots and history are in a large log: the core alone, without sockets.

python -m tests.benchmarks.replays

Everything that a connection asks for is taken at once, so that steps follow
each other as fast as they can. It is processor time, without the garbage
collector's.
"""

from __future__ import annotations

import gc
import json
import random
import time

import click
from attrs import frozen

from tercet_broker.core import (
    Broker,
    BrokerSettings,
    HistorySettings,
    Moment,
    NamespaceSettings,
    Session,
)

from .rules import Nobody

_NOW = Moment(0.0, 1_800_000_000_000)
_EVERYTHING = 1 << 30  # bytes

ALL, LITTLE = "t/#", "t/+/none"  # filters that match every message, and none
KINDS = {
    "the run": NamespaceSettings(history=HistorySettings(messages=1 << 30, bytes=_EVERYTHING)),
    "beyond the run": NamespaceSettings(history=HistorySettings(messages=100, bytes=_EVERYTHING, per_topic=1)),
    "retained": NamespaceSettings(topics=1 << 30, retained_bytes=_EVERYTHING),
}


@frozen
class Steps:
    """What a request took, in seconds of processor time.

    Attributes:
        count: the request itself, and each page after it.
        size: bytes that came of it.
    """

    count: int
    longest: float
    total: float
    size: int


def join(broker: Broker) -> Session:
    """Return the session of a new connection."""
    session = broker.open(Nobody())
    session.receive(b'{"op":"connect"}', _NOW)
    return session


def empty(session: Session) -> int:
    """Take all that is queued, and return its bytes."""
    size = session.outbox.size
    session.outbox.sent(size)
    return size


def fill(settings: NamespaceSettings, topics: int) -> Broker:
    """Return a broker to which a message was published in each of so many topics, and retained where it may be."""
    broker = Broker(BrokerSettings(unnamed=settings), random.Random(0))
    retain = b"true" if settings.history is None else b"false"
    session = join(broker)
    for number in range(topics):
        session.receive(
            b'{"op":"publish","topic":"t/%d","data":%d,"retain":%b}' % (number, number, retain),
            _NOW,
        )
    session.leave()
    return broker


def measure(broker: Broker, **request: object) -> Steps:
    """Have a new connection ask, and take all that comes."""
    session = join(broker)
    empty(session)
    payload = json.dumps({"id": 1, **request}).encode()
    times, size = list[float](), 0
    began = time.process_time()
    session.receive(payload, _NOW)
    times.append(time.process_time() - began)
    size += empty(session)
    while session.outbox.is_behind:
        began = time.process_time()
        session.advance()
        times.append(time.process_time() - began)
        size += empty(session)
    session.leave()
    return Steps(len(times), max(times), sum(times), size)


def requests(broker: Broker, kind: str) -> dict[str, dict[str, object]]:
    """Return {what it is: a request} for a kind of log."""
    beginning = {"epoch": broker.epoch, "seq": 0}
    if kind == "retained":
        return {f"snapshot of {filter_}": {"op": "subscribe", "filter": filter_} for filter_ in (ALL, LITTLE)}
    found: dict[str, dict[str, object]] = {}
    for filter_ in (ALL, LITTLE):
        found[f"last 10,000 of {filter_}"] = {"op": "subscribe", "filter": filter_, "last": 10_000}
        found[f"since the beginning, {filter_}"] = {"op": "subscribe", "filter": filter_, "since": beginning}
        found[f"history of {filter_}"] = {"op": "history", "filter": filter_}
        found[f"history since, {filter_}"] = {"op": "history", "filter": filter_, "since": beginning}
    return found


@click.command()
@click.option("--topics", default=100_000, show_default=True, help="Topics, each with a message.")
@click.option("--rounds", default=5, show_default=True, help="How often each is measured; the best one counts.")
def main(topics: int, rounds: int) -> None:
    """Print the longest step of each request, in milliseconds."""
    click.echo(f"{'where':<16} {'what':<32} {'steps':>6} {'longest ms':>11} {'all ms':>8} {'bytes':>12}")
    for kind, settings in KINDS.items():
        broker = fill(settings, topics)
        gc.collect()
        gc.disable()
        for what, request in requests(broker, kind).items():
            best = min((measure(broker, **request) for _ in range(rounds)), key=lambda steps: steps.longest)
            figures = f"{best.count:>6,} {best.longest * 1e3:>11.2f} {best.total * 1e3:>8.1f} {best.size:>12,}"
            click.echo(f"{kind:<16} {what:<32} {figures}")
        gc.enable()


if __name__ == "__main__":
    main()

"""What it costs to drop the oldest from a queue that holds little of their namespace: without sockets.

python -m tests.benchmarks.relieving

A queue of `outbox_messages` deliveries is full. Some stand for the namespace
`quiet`, which serves from the log or disconnects; the last few are of `busy`,
which drops its oldest. Each further message of `busy` finds the queue full.
Prints processor microseconds for one such message, the mean and the longest:
of deliveries queued one by one, of runs of eight, and one by one with a reply
before each message, across which no gap grows.
"""

from __future__ import annotations

import time

import click

from tercet_broker.core.accounting import Account
from tercet_broker.core.log import Record
from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery, Run
from tercet_broker.core.topic import Topic
from tercet_protocol import encode_text_frame

FULL = 16_384  # deliveries: the default of `limits.outbox_messages`
MESSAGES = 300
_BYTES = 1 << 30


def make_record(topic: Topic, seq: int, books: Account) -> Record:
    return Record(topic, seq, 0, 0.0, encode_text_frame(b"x" * 100), 0, 0, books)


def measure(busy: int, in_runs_of: int = 1, *, replies: bool = False) -> list[float]:
    """Return microseconds for each message of `busy`, of which so many stand behind those of `quiet`."""
    books = {"busy": Account(), "quiet": Account()}
    topics = {name: Topic(name, (name,), b"", lambda _: None) for name in books}

    def overflow(delivery: Delivery) -> bool:
        assert isinstance(delivery, Record)
        outbox.relieve("busy", "e", books["busy"], delivery)
        return True

    outbox = Outbox(1, FULL, _BYTES, 64, wake=lambda: None, overflow=overflow)
    for name, count in (("quiet", FULL - busy), ("busy", busy)):
        for seq in range(1, count + 1, in_runs_of):
            records = [make_record(topics[name], seq + n, books[name]) for n in range(in_runs_of)]
            outbox.offer_run(Run.of(records))
    taken = []
    for seq in range(busy + 1, busy + 1 + MESSAGES):
        record = make_record(topics["busy"], seq, books["busy"])
        if replies:
            outbox.notify(record.frame)
        began = time.process_time()
        outbox.offer(record)
        taken.append((time.process_time() - began) * 1e6)
    return taken


@click.command()
def main() -> None:
    """Measure it for queues that hold more and more of the namespace that drops."""
    click.echo(f"µs a message that finds {FULL} deliveries queued, and of them so many that can be dropped")
    click.echo(f"{'droppable':>10}{'one by one':>20}{'in runs of 8':>20}{'behind a reply':>20}")
    for busy in (0, 8, 64, 512, 1024, 4096, FULL):
        columns = (measure(busy), measure(busy, 8), measure(busy, replies=True))
        cells = (f"{sum(taken) / len(taken):>12.1f}{max(taken):>8.0f}" for taken in columns)
        click.echo(f"{busy:>10}{''.join(cells)}")


if __name__ == "__main__":
    main()

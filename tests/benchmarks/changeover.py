"""What other rules cost under many sessions: the core alone, without sockets.

python -m tests.benchmarks.changeover

Each session is another user's. All have the same five filters, so that a
message to the topic of the first goes to everybody. Prints milliseconds of
processor time: of the step of the change, of a publish to all of them right
after it (and of the same once nothing is pending and its list of connections
has to be built), of the longest of the steps that go through the sessions, and
of all these together; the best of several rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import click
from attrs import evolve
from tests.benchmarks.rules import RULES, Nobody, empty

from tercet_broker.core import Action, Broker, BrokerSettings, Identity, Moment, Rule, Rules

FILTERS = ("prices/+/quotes", "prices/EUR/quotes", "prices/a/#", "prices/b/+", "prices/c")
PUBLISH = b'{"op":"publish","topic":"prices/USD/quotes","data":1}'
_NOW = Moment(0.0, 1_800_000_000_000)
_EVERYTHING = Rule(("user:feed",), tuple(Action), ("#",))
_OTHERS = RULES.rules[:38]  # that concern nobody here


def _for_readers(*filters: str) -> Rules:
    return Rules((*_OTHERS, _EVERYTHING, Rule(("group:readers",), tuple(Action), filters)))


CHANGES = {
    "nothing ends": _for_readers(*FILTERS),
    "one of five ends": _for_readers(*FILTERS[:4]),
    "the busiest ends": _for_readers(*FILTERS[1:]),
    "all end": _for_readers("elsewhere/#"),
    "five by name": Rules((*_OTHERS, _EVERYTHING, Rule(("authenticated",), tuple(Action), ("prices/{user}",)))),
    "torn": _for_readers("prices/+/quotes", "prices/c"),
}


def make_broker(count: int, filters: tuple[str, ...] = FILTERS) -> Broker:
    """Return a broker with so many sessions, and one more, the first, that publishes."""
    broker = Broker(BrokerSettings(), random.Random(0))
    broker.access = evolve(broker.access, rules=RULES)
    for number in range(count + 1):
        session = broker.open(Nobody())
        user = f"u{number}" if number else "feed"
        session.arrival = evolve(session.arrival, identity=Identity(user, frozenset({"readers"})))
        session.receive(b'{"op":"connect"}', _NOW)
        for id_, filter_ in enumerate(filters if number else (), 1):
            session.receive(b'{"op":"subscribe","id":%d,"filter":"%b"}' % (id_, filter_.encode()), _NOW)
        empty(session)
    broker.changeover.soon = lambda: None
    return broker


def milliseconds(step: Callable[[], object]) -> float:
    """Return what a step takes."""
    began = time.process_time()
    step()
    return (time.process_time() - began) * 1000


def steps_of(broker: Broker) -> Iterator[float]:
    """Yield what each step of carrying out a change takes."""
    steps = broker.changeover.steps()
    while broker.changeover.is_open:
        yield milliseconds(lambda: next(steps, None))


def measure(count: int, rules: Rules, filters: tuple[str, ...] = FILTERS) -> list[float]:
    """Return the columns of the table."""
    broker = make_broker(count, filters)
    feed = broker.sessions[0]
    change = milliseconds(lambda: broker.set_rules(rules))
    publish = milliseconds(lambda: feed.receive(PUBLISH, _NOW))
    steps = list(steps_of(broker))
    broker.spanning.invalidate()
    later = milliseconds(lambda: feed.receive(PUBLISH, _NOW))
    return [change, publish, later, max(steps), change + publish + sum(steps)]


@click.command()
@click.option("--sessions", default=10_000, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="How often each is measured; the best one counts.")
def main(sessions: int, rounds: int) -> None:
    """Measure what a change of the rules costs."""
    click.echo(f"ms of processor time, {sessions} sessions with {len(FILTERS)} subscriptions each")
    names = ("change", "publish", "later", "longest", "all")
    click.echo(f"{'':>18}" + "".join(f"{name:>9}" for name in names))
    for name, rules in CHANGES.items():
        filters = ("prices/USD/#", *FILTERS) if name == "torn" else FILTERS
        rows = [measure(sessions, rules, filters) for _ in range(rounds)]
        click.echo(f"{name:>18}" + "".join(f"{min(column):>9.2f}" for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    main()

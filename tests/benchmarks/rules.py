"""What rules cost: the core with and without them, in turns, without sockets.

python -m tests.benchmarks.rules

Publishes through sessions to subscribers whose outboxes are emptied at once.
Prints the processor time of a delivery, or of a publish, the best of several
rounds: whatever else the machine does only adds to it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import click
from attrs import define, evolve

from tercet_broker.core import Action, Answer, Broker, BrokerSettings, Identity, Moment, Rule, Rules, Session
from tercet_protocol import CloseCode

ROUNDS = 15
DELIVERIES = 20_000  # of one round
FANOUTS = (1, 10, 100, 1000)
_NOW = Moment(0.0, 1_800_000_000_000)
_ALICE = Identity("alice", frozenset({"readers"}))

# Of forty rules a few concern one user, as on a site with many kinds of users.
RULES = Rules(
    (
        *(Rule((f"group:team{n}",), tuple(Action), (f"team{n}/#",)) for n in range(38)),
        Rule(("group:readers",), (Action.SUBSCRIBE, Action.PUBLISH), ("prices/+/quotes",)),
        Rule(("authenticated",), tuple(Action), ("inbox/{user}/#", "prices/#")),
    )
)


@define(eq=False)
class Nobody:
    """A carrier that carries nothing."""

    def wake(self) -> None:
        """Nothing."""

    def close(self, code: CloseCode, reason: str) -> None:
        raise AssertionError((code, reason))

    def authenticate(self, token: str, answer: Answer) -> None:
        raise AssertionError((token, answer))


def make_world(rules: Rules, fanout: int) -> tuple[Session, list[Session]]:
    """Return a publisher and subscribers."""
    broker = Broker(BrokerSettings(), random.Random(0))
    broker.access = evolve(broker.access, rules=rules)
    broker.users.limit = fanout + 1
    sessions = []
    for number in range(fanout + 1):
        session = broker.open(Nobody())
        session.arrival = evolve(session.arrival, identity=_ALICE)
        session.receive(b'{"op":"connect"}', _NOW)
        if number:
            session.receive(b'{"op":"subscribe","id":1,"filter":"prices/+/quotes"}', _NOW)
        empty(session)
        sessions.append(session)
    return sessions[0], sessions[1:]


def empty(session: Session) -> None:
    outbox = session.outbox
    outbox.sent(outbox.size)


def publish_to(rules: Rules, fanout: int) -> Callable[[], float]:
    """Return a round: it gives the processor microseconds of one delivery."""
    publisher, subscribers = make_world(rules, fanout)
    payloads = [
        json.dumps({"op": "publish", "topic": f"prices/{n}/quotes", "data": "x" * 128}).encode() for n in range(16)
    ]
    count = max(16, DELIVERIES // fanout)

    def run() -> float:
        began = time.process_time()
        for number in range(count):
            publisher.receive(payloads[number % 16], _NOW)
            for session in subscribers:
                empty(session)
        taken = time.process_time() - began
        delivered = sum(session.outbox.account.delivered for session in subscribers)
        assert delivered % (count * fanout) == 0
        assert delivered
        return taken / (count * fanout) * 1e6

    return run


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="How often each is measured; the best one counts.")
def main(rounds: int) -> None:
    """Compare a broker with rules and one without."""
    click.echo("processor µs a delivery, the publish and the taking off the queue included")
    click.echo(f"{'fan-out':>8}  {'no rules':>9}  {f'{len(RULES.rules)} rules':>9}  {'more':>7}")
    for fanout in FANOUTS:
        without, with_ = publish_to(Rules(), fanout), publish_to(RULES, fanout)
        bare, ruled = [], []
        for _ in range(rounds):
            bare.append(without())
            ruled.append(with_())
        more = min(ruled) / min(bare) - 1
        click.echo(f"{fanout:>8}  {min(bare):>9.3f}  {min(ruled):>9.3f}  {more:>+7.1%}")


if __name__ == "__main__":
    main()

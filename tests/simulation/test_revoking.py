"""Rights that are taken back while messages flow: nothing that was published after that is delivered."""

from __future__ import annotations

import itertools

import argon2
import trio
from attrs import define, evolve, field
from tests.simulation.brokers import small_broker
from tests.simulation.finale import check_whole, conclude
from tests.simulation.reader import read

import tercet
from tercet_broker.core import Action, Rule
from tercet_broker.runtime import AuthSettings, TokenSettings
from tercet_testing import SimulatedBroker, SimulatedClient, Simulation, simulate

SECRET, OPEN = "news/secret/#", "news/open/#"
ALL = tuple(Action)

_HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
AUTH = AuthSettings(token=tuple(TokenSettings(name, _HASH, name) for name in ("feed", "screen", "other")))
LESS = (Rule(("user:feed", "user:other"), ALL, ("#",)), Rule(("user:screen",), ALL, (OPEN, "news/end")))
MORE = (*LESS, Rule(("user:screen",), ALL, ("news/#",)))


@define(eq=False)
class Insistent:
    """Subscribes again whenever it is sent away, and takes up where it was."""

    sim: Simulation
    client: SimulatedClient
    filter: str
    last: int | None = None
    ended: int = 0
    refused: int = 0
    messages: list[tercet.Message] = field(factory=list)

    async def run(self) -> None:
        since = None
        while True:
            try:
                async with self.client.subscribe(
                    self.filter, since=since, last=None if since else self.last
                ) as subscription:
                    async for event in subscription.events():
                        since = subscription.position
                        if isinstance(event, tercet.Message):
                            self.messages.append(event)
            except tercet.BrokenSubscriptionError as error:
                assert error.code == "forbidden"
                self.ended += 1
            except tercet.RefusedError as error:
                assert error.code == "forbidden"
                self.refused += 1
            except tercet.ClosedError:
                return
            await self.sim.sleep(self.sim.random.choice([0, 0.05, 0.3]))


def apply(sim: Simulation, broker: SimulatedBroker, rules: tuple[Rule, ...], auth: AuthSettings = AUTH) -> None:
    """Change the rules, and note it in the history, in one step."""
    broker.settings = evolve(broker.settings, rules=rules, auth=auth)
    broker.daemon.set_access(auth, rules)
    (sim.history.granted if rules is MORE else sim.history.revoked)("screen", SECRET)


def carry_out_slowly(sim: Simulation, broker: SimulatedBroker, *, at_once: int) -> None:
    """Have the sessions comply with changes a few at a time, with virtual time in between, as if there were many."""
    changeover = broker.daemon.broker.changeover
    changeover.at_once, changeover.soon = at_once, lambda: None

    async def carry_out() -> None:
        while True:
            for _ in changeover.steps():
                await sim.sleep(sim.random.choice([0, 0.02, 0.05]))
            await sim.sleep(0.01)

    sim.nursery.start_soon(carry_out)


@simulate(seeds=24, sometimes=["ended", "refused", "ended in a replay", "got something secret", "came back"])
async def test_revocation_in_mid_stream(sim: Simulation) -> None:
    """What is forbidden is not delivered, live or replayed, and what is not goes on without a gap."""
    settings = small_broker(outbox=sim.random.choice([16, 16_384]), auth=AUTH, rules=MORE)
    broker = await sim.broker(settings)
    if sim.random.random() < 0.5:
        carry_out_slowly(sim, broker, at_once=1)
    feed, screen, other = [await sim.client(name, token=f"{name}.x") for name in ("feed", "screen", "other")]
    for n in range(40):
        await feed.publish(sim.random.choice(["news/secret/x", "news/open/x"]), ["old", n, "x" * 100])
    steady, healthy = await read(sim, screen, OPEN), await read(sim, other, "news/#")
    insistent = [Insistent(sim, screen, filter_, last=40) for filter_ in ("news/#", SECRET, "news/secret/x")]
    line = sim.network.link("broker", "screen")
    line.rate, line.buffer = sim.random.choice([2_000, 10**9]), 1024
    was_behind = False
    for reader in insistent:
        sim.nursery.start_soon(reader.run)

    async def publish() -> None:
        for n in range(80):
            await feed.publish(sim.random.choice(["news/secret/x", "news/open/x", "news/secret/y"]), n)
            await sim.sleep(sim.random.choice([0, 0.01, 0.05]))

    async def change() -> None:
        nonlocal was_behind
        for _ in range(4):
            await sim.sleep(sim.random.uniform(0.05, 0.6))
            before = sum(session.replaying for session in broker.statistics().sessions)
            apply(sim, broker, LESS)
            await sim.sleep(0)
            was_behind |= sum(session.replaying for session in broker.statistics().sessions) < before
            await sim.sleep(sim.random.uniform(0, 0.6))
            if sim.random.random() < 0.5:
                sim.network.reset("screen")
            await sim.sleep(sim.random.uniform(0, 0.6))
            apply(sim, broker, MORE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        nursery.start_soon(change)
    apply(sim, broker, LESS)
    line.rate = 10**9
    await sim.sleep(1)
    sim.sometimes("ended", any(reader.ended for reader in insistent))
    sim.sometimes("refused", any(reader.refused for reader in insistent))
    sim.sometimes("ended in a replay", was_behind)
    sim.sometimes("got something secret", any("secret" in m.topic for reader in insistent for m in reader.messages))
    sim.sometimes("came back", screen.client.statistics().connections > 1)
    await conclude(sim, feed, [steady, healthy])
    check_whole(healthy, first=41)


@simulate(seeds=12, sometimes=["stopped"])
async def test_revoked_token(sim: Simulation) -> None:
    """Its connection is closed with 3000; its client has no other token, and stops. The others hear everything."""
    broker = await sim.broker(small_broker(auth=AUTH, rules=MORE))
    feed, screen, other = [await sim.client(name, token=f"{name}.x") for name in ("feed", "screen", "other")]
    healthy = await read(sim, other, "news/#")
    stopped = trio.Event()

    async def watch() -> None:
        try:
            async with screen.subscribe("news/#") as subscription:
                async for _ in subscription:
                    pass
        except tercet.BrokenClientError as error:
            assert error.code == 3000
            stopped.set()

    sim.nursery.start_soon(watch)
    for n in range(40):
        await feed.publish("news/x", n)
        await sim.sleep(sim.random.choice([0, 0.01]))
        if n == 20:
            apply(sim, broker, MORE, evolve(AUTH, token=tuple(t for t in AUTH.token if t.id != "screen")))
            sim.history.revoked("screen", "#")
    with trio.move_on_after(60):
        await stopped.wait()
    sim.sometimes("stopped", stopped.is_set())
    assert stopped.is_set()
    sim.forget(screen)
    await conclude(sim, feed, [healthy])
    check_whole(healthy)


_CROWD = 40
_GROUPS = ("even", "odd")
_CROWD_AUTH = AuthSettings(
    token=(
        TokenSettings("feed", _HASH, "feed"),
        *(TokenSettings(f"u{n}", _HASH, f"u{n}", (_GROUPS[n % 2],)) for n in range(_CROWD)),
    )
)


def _only(*groups: str) -> tuple[Rule, ...]:
    """Return rules by which all may hear what is open, and these groups what is secret."""
    rules = Rule(("user:feed",), ALL, ("#",)), Rule(("authenticated",), ALL, (OPEN, "news/end"))
    return (*rules, Rule(tuple(f"group:{group}" for group in groups), ALL, (SECRET,))) if groups else rules


def _note(sim: Simulation, before: set[str], after: set[str]) -> None:
    """Note in the history what each client has lost or regained."""
    for n in range(_CROWD):
        group = _GROUPS[n % 2]
        if (group in before) != (group in after):
            (sim.history.granted if group in after else sim.history.revoked)(f"u{n}", SECRET)


@simulate(seeds=3, sometimes=["published in the middle", "ended", "came back"])
async def test_reload_of_rules_under_a_crowd(sim: Simulation) -> None:
    """Forty clients, half of whom lose and regain a right at a time, while some are cut off.

    The sessions comply a few at a time, with traffic in between. Nothing
    forbidden is delivered, everybody hears all that is open, and who resumes
    misses nothing that nobody told of.
    """
    broker = await sim.broker(small_broker(auth=_CROWD_AUTH, rules=_only(*_GROUPS)))
    changeover = broker.daemon.broker.changeover
    carry_out_slowly(sim, broker, at_once=4)
    feed = await sim.client("feed", token="feed.x")
    crowd = [await sim.client(f"u{n}", token=f"u{n}.x") for n in range(_CROWD)]
    readers = [await read(sim, client, OPEN) for client in crowd]
    insistent = [Insistent(sim, client, SECRET) for client in crowd]
    for one in insistent:
        sim.nursery.start_soon(one.run)
    allowed = set(_GROUPS)

    async def publish() -> None:
        for n in itertools.count():
            await feed.publish(sim.random.choice(["news/secret/x", "news/open/x"]), n)
            sim.sometimes("published in the middle", changeover.is_open)
            await sim.sleep(sim.random.choice([0, 0.001, 0.02]))

    async def change() -> None:
        for _ in range(6):
            await sim.sleep(sim.random.uniform(0, 0.3))
            wanted = set(sim.random.sample(_GROUPS, sim.random.randint(0, 2)))
            broker.daemon.reload(evolve(broker.daemon.settings, rules=_only(*sorted(wanted))))
            _note(sim, allowed, wanted)
            allowed.clear()
            allowed.update(wanted)
            if sim.random.random() < 0.5:
                sim.network.reset(f"u{sim.random.randrange(_CROWD)}")

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(publish)
        await change()
        nursery.cancel_scope.cancel()
    sim.sometimes("ended", any(one.ended for one in insistent))
    sim.sometimes("came back", any(client.client.statistics().connections > 1 for client in crowd))
    await conclude(sim, feed, readers)
    expected = readers[0].data
    for reader in readers:
        assert not reader.gaps
        assert reader.data == expected

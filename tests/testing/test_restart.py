"""A simulated broker comes back, with its memory or without."""

from __future__ import annotations

import pytest

import tercet
from tercet_testing import Simulation, run_seed


@pytest.mark.parametrize("memory", [True, False])
def test_restart_keeps_what_was_published_if_asked_to(memory: bool) -> None:
    async def scenario(sim: Simulation) -> None:
        broker = await sim.broker()
        feed, screen = await sim.client("feed"), await sim.client("screen")
        async with screen.subscribe("news/#") as news:
            first = (await feed.publish("news/x", 1, retain=True, key="k" * 16)).position
            assert (await news.receive()).data == 1
            await broker.restart(memory=memory)
            again = await feed.publish("news/x", 1, retain=True, key="k" * 16)
            assert again.duplicate is memory
            assert (again.position == first) is memory
            await feed.publish("news/x", 2)
            gaps = 0
            event: object = None
            while not (isinstance(event, tercet.Message) and event.data == 2):
                event = await news.next_event()
                gaps += isinstance(event, tercet.Gap)
            assert gaps == (not memory)

    outcome = run_seed(scenario, 0)
    assert outcome.error is None


def test_second_restart_forgets_what_the_first_one_kept() -> None:
    async def scenario(sim: Simulation) -> None:
        broker = await sim.broker()
        epochs = []
        for memory in (True, True, False):
            epochs.append(broker.daemon.broker.epoch)
            await broker.restart(memory=memory)
        epochs.append(broker.daemon.broker.epoch)
        assert len(set(epochs[:3])) == 1
        assert epochs[3] != epochs[0]

    assert run_seed(scenario, 0).error is None


@pytest.mark.parametrize("memory", [True, False])
def test_deliveries_of_an_earlier_life_are_counted_once(memory: bool) -> None:
    async def scenario(sim: Simulation) -> None:
        broker = await sim.broker()
        client = await sim.client("screen")
        async with client.subscribe("news/#") as news:
            for number in range(3):
                await client.publish("news/x", number)
                while (await news.receive()).data != number:
                    pass
                await broker.restart(memory=memory)
                await client.client.wait_connected()

    outcome = run_seed(scenario, 0)
    assert outcome.error is None
    assert outcome.deliveries == 3


def test_books_of_a_crashed_broker_are_closed() -> None:
    """What was queued for its connections is dropped with them, and stays so when it is back."""

    async def scenario(sim: Simulation) -> None:
        broker = await sim.broker()
        feed, screen = await sim.client("feed"), await sim.client("screen")
        async with screen.subscribe("news/#"):
            sim.network.link("broker", "screen").rate = 1.0
            sim.network.link("broker", "screen").buffer = 1
            for number in range(5):
                await feed.publish("news/x", number)
            (before,) = (space.account for space in broker.statistics().namespaces)
            assert before.queued > 0
            await broker.crash()
            (after,) = (space.account for space in broker.statistics().namespaces)
            assert after.queued == 0
            assert sum(after.dropped.values()) == before.queued
            sim.network.link("broker", "screen").rate = 1e9
            await broker.start(memory=True)
            assert broker.statistics().namespaces[0].account == after

    assert run_seed(scenario, 0).error is None

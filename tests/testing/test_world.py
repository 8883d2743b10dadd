"""What a scenario may ask of its world, and what is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tercet_testing import Outcome, Simulation, run_seed


def _run(check: Callable[[], object]) -> Outcome:
    async def scenario(sim: Simulation) -> None:
        sim.always(check)
        await sim.sleep(1)

    return run_seed(scenario, 0)


@pytest.mark.parametrize("result", [False, 0, "", []])
def test_check_that_returns_what_is_false_fails(result: object) -> None:
    def holds() -> object:
        return result

    error = _run(holds).error
    assert isinstance(error, AssertionError)
    assert "not always: " in str(error)
    assert "holds" in str(error)
    assert f"returned {result!r}" in str(error)
    assert __file__ in str(error)


@pytest.mark.parametrize("result", [None, True, 1])
def test_check_that_returns_nothing_or_what_is_true_passes(result: object) -> None:
    assert _run(lambda: result).error is None


def test_async_check_is_refused() -> None:
    """A coroutine is always true."""

    async def check() -> bool:
        return False

    async def wait(sim: Simulation) -> None:
        await sim.eventually(check, within=1)

    assert isinstance(_run(check).error, TypeError)
    assert isinstance(run_seed(wait, 0).error, TypeError)


TROUBLE: dict[str, Callable[[Simulation], object]] = {
    "partition": lambda sim: sim.network.partition("ana", "broker"),
    "other end of a partition": lambda sim: sim.network.partition("broker", "ana"),
    "link": lambda sim: sim.network.link("ana", "broker"),
    "freeze": lambda sim: sim.network.freeze("ana"),
    "thaw": lambda sim: sim.network.thaw("ana"),
    "reset": lambda sim: sim.network.reset("ana"),
    "power_off": lambda sim: sim.network.power_off("ana"),
}


@pytest.mark.parametrize("what", TROUBLE)
def test_unknown_host_is_refused(what: str) -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        await sim.client("anna")
        TROUBLE[what](sim)

    error = run_seed(scenario, 0).error
    assert isinstance(error, ValueError)
    assert str(error) == "there is no host 'ana'; those that are known are 'broker', 'anna'"


def test_host_may_be_known_before_it_speaks() -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        sim.network.add_host("anna")
        sim.network.partition("anna", "broker")
        with trio.move_on_after(10) as patience:
            await sim.client("anna")
        assert patience.cancelled_caught

    assert run_seed(scenario, 0).error is None


def test_partition_of_a_host_from_itself_is_refused() -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        sim.network.partition("broker", "broker")

    assert "between two hosts" in str(run_seed(scenario, 0).error)


def test_client_without_its_broker_is_refused_at_once() -> None:
    async def nobody(sim: Simulation) -> None:
        await sim.client("anna")

    async def another(sim: Simulation) -> None:
        await sim.broker()
        await sim.client("anna", broker="brocker")

    assert str(run_seed(nobody, 0).error).endswith("started are none: start one with sim.broker()")
    assert str(run_seed(another, 0).error) == "there is no broker 'brocker'; those that were started are 'broker'"
    assert run_seed(nobody, 0).steps < 20


def test_client_may_begin_while_the_broker_is_down() -> None:
    async def scenario(sim: Simulation) -> None:
        broker = await sim.broker()
        await broker.crash()
        sim.nursery.start_soon(sim.client, "anna")
        await sim.sleep(5)
        await broker.start()
        await sim.eventually(lambda: sim.clients, within=60)

    assert run_seed(scenario, 0).error is None


@pytest.mark.parametrize("faults", [["partition"], {}, {"partition": "no function"}])
def test_faults_are_functions_by_name(faults: Any) -> None:
    async def scenario(sim: Simulation) -> None:
        await sim.chaos(faults, times=0, every=(1, 2))

    error = run_seed(scenario, 0).error
    assert isinstance(error, TypeError)
    assert "faults are {name: async function" in str(error)


def test_fault_that_is_no_async_function_is_named() -> None:
    faults: Any = {"heal": lambda: None}

    async def scenario(sim: Simulation) -> None:
        await sim.chaos(faults, times=1, every=(1, 2))

    error = run_seed(scenario, 0).error
    assert isinstance(error, TypeError)
    assert str(error) == "the fault 'heal' is no async function"

"""The decorator: what it takes, and what it refuses where it stands."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tercet_testing import Simulation, simulate
from tercet_testing.simulate import options

decorate: Any = simulate


async def scenario(sim: Simulation) -> None:
    await sim.sleep(1)


def test_without_parentheses_is_refused() -> None:
    with pytest.raises(TypeError, match=r"write @simulate\(\)"):
        decorate(scenario)


def test_plain_function_is_refused() -> None:
    def plain(sim: Simulation) -> None:
        pass

    with pytest.raises(TypeError, match="a scenario is an async function"):
        decorate()(plain)


def test_scenario_without_a_simulation_is_refused() -> None:
    async def alone() -> None:
        pass

    async def method(self: object) -> None:
        pass

    for function in (alone, method):
        with pytest.raises(TypeError, match="no parameter for the Simulation"):
            decorate()(function)


@pytest.mark.parametrize(
    "wrong", [{"seeds": 0}, {"seeds": -1}, {"policies": ()}, {"policies": ("fare",)}, {"limit": 0}, {"limit": -1.0}]
)
def test_senseless_numbers_and_names_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} "):
        decorate(**wrong)


class Scenarios:
    """What pytest would collect were it called so."""

    ran: list[object]

    @simulate(seeds=2)
    async def method(self, sim: Simulation, number: int) -> None:
        await sim.sleep(1)
        self.ran.append((sim.seed, number))


def test_method_gets_its_instance_and_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "seed", None)
    monkeypatch.setattr(options, "seeds", None)
    scenarios = Scenarios()
    scenarios.ran = []
    scenarios.method(number=3)
    assert list(dict.fromkeys(scenarios.ran)) == [(0, 3), (1, 3)]
    assert list(inspect.signature(scenarios.method).parameters) == ["number"]

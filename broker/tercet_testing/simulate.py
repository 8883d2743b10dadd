"""The decorator that makes a scenario a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from attrs import define

from .suite import DEFAULT_POLICIES, Suite
from .world import Simulation

P = ParamSpec("P")


@define
class Options:
    """What a pytest run was told about simulations; the plugin fills it in.

    Attributes:
        seed: run just this one.
        seeds: run so many instead of what the decorator says.
        policy: run under just this one.
        traces: where traces of failing runs go.
    """

    seed: int | None = None
    seeds: int | None = None
    policy: str | None = None
    traces: Path = Path(".sim-traces")


options = Options()


def simulate(
    seeds: int = 100, *, policies: Sequence[str] = DEFAULT_POLICIES, sometimes: Sequence[str] = ()
) -> Callable[[Callable[Concatenate[Simulation, P], Awaitable[None]]], Callable[P, None]]:
    """Make a scenario a test that runs it under many seeds, each in a world of its own.

        @simulate(seeds=200)
        async def test_ticker_survives_a_partition(sim): ...

    The scenario's first parameter is the `Simulation`; pytest fixtures may
    follow, and are shared by all seeds. Replay one with `--sim-seed`.

    Args:
        seeds: how many, from 0.
        policies: the scheduling policies, which the seeds take in turn.
        sometimes: names for `sim.sometimes` that at least one seed must reach.
    """

    def decorate(scenario: Callable[Concatenate[Simulation, P], Awaitable[None]]) -> Callable[P, None]:
        @functools.wraps(scenario)
        def test(*args: P.args, **kwargs: P.kwargs) -> None:
            __tracebackhide__ = True

            async def run(simulation: Simulation) -> None:
                await scenario(simulation, *args, **kwargs)

            name = f"{scenario.__module__}::{scenario.__qualname__}"
            suite = suite_of(test, run, name)
            if options.seed is None:
                suite.run(range(options.seeds or seeds))
            else:
                suite.replay_one(options.seed)

        signature = inspect.signature(scenario)
        rest = list(signature.parameters.values())[1:]
        test.__signature__ = signature.replace(parameters=rest, return_annotation=None)  # type: ignore[attr-defined]
        test.simulation = (scenario, seeds, tuple(policies), tuple(sometimes))  # type: ignore[attr-defined]
        del test.__wrapped__  # pytest would look for `sim` there
        return test

    return decorate


def suite_of(test: Any, scenario: Callable[[Simulation], Awaitable[None]], name: str) -> Suite:
    """Return the suite of a decorated test; `scenario` is it with its fixtures bound."""
    _, _, policies, sometimes = test.simulation
    return Suite(
        name,
        scenario,
        policies=(options.policy,) if options.policy else policies,
        sometimes=() if options.seed is not None else sometimes,
        replay=lambda seed, policy: f"pytest -k {name.rpartition('::')[2]} --sim-seed={seed} --sim-policy={policy}",
        traces=options.traces,
    )

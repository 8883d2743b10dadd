"""The decorator that makes a scenario a test."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from attrs import define

from .running import LIMIT
from .scheduling import POLICIES
from .suite import DEFAULT_POLICIES, Suite
from .world import Simulation

P = ParamSpec("P")
S = TypeVar("S")


class Decorator(Protocol):
    """What `simulate` returns: takes an async function, or method, and leaves out its `Simulation`."""

    @overload
    def __call__(self, scenario: Callable[Concatenate[Simulation, P], Awaitable[None]], /) -> Callable[P, None]: ...

    @overload
    def __call__(
        self, scenario: Callable[Concatenate[S, Simulation, P], Awaitable[None]], /
    ) -> Callable[Concatenate[S, P], None]: ...


@define
class Options:
    """What a pytest run was told about simulations; the plugin fills it in.

    Attributes:
        seed: run just this one.
        seeds: run so many instead of what the decorator says.
        policy: run under just this one.
        traces: where traces of failing runs go.
        node: the node id of the test that runs, as pytest takes it from the working directory; None outside pytest.
    """

    seed: int | None = None
    seeds: int | None = None
    policy: str | None = None
    traces: Path = Path(".sim-traces")
    node: str | None = None


options = Options()


def simulate(
    seeds: int = 100,
    *,
    policies: Sequence[str] = DEFAULT_POLICIES,
    sometimes: Sequence[str] = (),
    limit: float = LIMIT,
) -> Decorator:
    """Make a scenario a test that runs it under many seeds, each in a world of its own.

        @simulate(seeds=200)
        async def test_ticker_survives_a_partition(sim): ...

    The scenario's first parameter is the `Simulation`, or its second if the
    first is called `self`: a method of a test class. Pytest fixtures may
    follow, and are shared by all seeds. Replay one with `--sim-seed`.

    Args:
        seeds: how many, from 0.
        policies: the scheduling policies, which the seeds take in turn.
        sometimes: names for `sim.sometimes` that at least one seed must reach.
        limit: virtual seconds that a run may take.

    Raises:
        TypeError: what is decorated is no async function, or `simulate` stands without parentheses.
        ValueError: a number makes no sense, or there is no such policy.
    """
    _demand_sense(seeds, policies, limit)

    def decorate(scenario: Any) -> Any:
        if not inspect.iscoroutinefunction(scenario):
            raise TypeError(f"a scenario is an async function that takes a Simulation, not {scenario!r}")
        signature = inspect.signature(scenario)
        parameters = list(signature.parameters.values())
        place = 1 if parameters and parameters[0].name == "self" else 0  # of the simulation
        if len(parameters) <= place:
            raise TypeError(f"{scenario.__qualname__} has no parameter for the Simulation")

        @functools.wraps(scenario)
        def test(*args: object, **kwargs: object) -> None:
            __tracebackhide__ = True

            async def run(simulation: Simulation) -> None:
                __tracebackhide__ = True
                await scenario(*args[:place], simulation, *args[place:], **kwargs)

            suite = suite_of(test, run, f"{scenario.__module__}::{scenario.__qualname__.replace('.', '::')}")
            if options.seed is None:
                suite.run(range(seeds if options.seeds is None else options.seeds))
            else:
                suite.replay_one(options.seed)

        rest = [*parameters[:place], *parameters[place + 1 :]]
        test.__signature__ = signature.replace(parameters=rest, return_annotation=None)  # type: ignore[attr-defined]
        test.simulation = (scenario, seeds, tuple(policies), tuple(sometimes), limit)  # type: ignore[attr-defined]
        del test.__wrapped__  # pytest would look for `sim` there
        return test

    return decorate


def _demand_sense(seeds: object, policies: Sequence[str], limit: float) -> None:
    if not isinstance(seeds, int):
        raise TypeError(f"write @simulate() or @simulate(seeds=100): seeds is a number, not {seeds!r}")
    if seeds < 1:
        raise ValueError(f"seeds is at least 1, not {seeds}")
    if not policies or any(policy not in POLICIES for policy in policies):
        raise ValueError(f"policies are of {', '.join(map(repr, POLICIES))}, not {policies!r}")
    if limit <= 0:
        raise ValueError(f"limit is more than 0 virtual seconds, not {limit}")


def suite_of(test: Any, scenario: Callable[[Simulation], Awaitable[None]], name: str) -> Suite:
    """Return the suite of a decorated test; `scenario` is it with its fixtures bound, `name` its node id by default."""
    _, _, policies, sometimes, limit = test.simulation
    node = options.node or name
    return Suite(
        node,
        scenario,
        policies=(options.policy,) if options.policy else policies,
        sometimes=() if options.seed is not None else sometimes,
        replay=lambda seed, policy: f"pytest {shlex.quote(node)} --sim-seed={seed} --sim-policy={policy}",
        traces=options.traces,
        limit=limit,
    )

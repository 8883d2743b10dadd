"""The pytest plugin: options for simulations, and the fixtures."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest

from .scheduling import POLICIES
from .simulate import options


def _seed(text: str) -> int:
    return _at_least(0, text)


def _count(text: str) -> int:
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{number} is less than {least}")
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--sim-…`."""
    group = parser.getgroup("tercet", "simulations of Tercet")
    group.addoption("--sim-seed", type=_seed, help="run simulations under this seed only")
    group.addoption("--sim-seeds", type=_count, help="run simulations under so many seeds, from 0")
    group.addoption("--sim-policy", choices=list(POLICIES), help="run simulations under this scheduling policy only")
    group.addoption("--sim-traces", type=Path, default=Path(".sim-traces"), help="where traces of failures go")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Tell `simulate` what runs."""
    path = os.path.relpath(item.path, item.config.invocation_params.dir)
    options.node = "::".join([path, *item.nodeid.split("::")[1:]])
    try:
        return (yield)
    finally:
        options.node = None


def pytest_configure(config: pytest.Config) -> None:
    """Tell `simulate` what was asked for."""
    options.seed = config.getoption("--sim-seed")
    options.seeds = config.getoption("--sim-seeds")
    options.policy = config.getoption("--sim-policy")
    options.traces = config.getoption("--sim-traces")
    if find_spec("pytest_trio") is not None:  # simulations do not need it, the fixtures do
        config.pluginmanager.import_plugin("tercet_testing.fixtures")

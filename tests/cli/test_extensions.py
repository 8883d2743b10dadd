"""Commands that other packages add."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tercet_broker.cli import commands, tercet


class FakePoint:
    name = "greet"

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def load(self) -> object:
        return self.thing


@click.command()
def greet() -> None:
    """Say hello."""
    click.echo("hello")


def offer(monkeypatch: pytest.MonkeyPatch, thing: object) -> None:
    def entry_points(*, group: str, name: str = "greet") -> list[FakePoint]:
        assert group == "tercet.commands"
        return [FakePoint(thing)] if name == "greet" else []

    monkeypatch.setattr(commands, "entry_points", entry_points)


def test_extension_is_listed_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, greet)
    assert "greet" in CliRunner().invoke(tercet, ["--help"]).output
    assert CliRunner().invoke(tercet, ["greet"]).output == "hello\n"


def test_extension_that_is_no_command_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, 7)
    result = CliRunner().invoke(tercet, ["greet"])
    assert result.exit_code == 2
    assert "No such command 'greet'" in result.output


def test_simulate_is_such_an_extension() -> None:
    result = CliRunner().invoke(tercet, ["simulate", "--help"])
    assert result.exit_code == 0
    assert "--seeds" in result.output

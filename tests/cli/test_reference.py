"""docs/reference/command-line.md names every command and option, and nothing that is none."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from tercet_broker.cli import tercet
from tercet_broker.cli.exits import ExitCode

PAGE = (Path(__file__).parents[2] / "docs/reference/command-line.md").read_text()
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)$", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))


def test_every_command_has_a_section() -> None:
    assert set(SECTIONS) - {"Exit status"} == {f"`tercet {name}`" for name in tercet.commands}


@pytest.mark.parametrize("name", sorted(tercet.commands))
def test_every_option_is_documented_with_its_default(name: str) -> None:
    section = SECTIONS[f"`tercet {name}`"]
    rows = dict(re.findall(r"^\| (`-[^|]*) \| ([^|]+) \|", section, re.MULTILINE))
    documented = {}  # {(spellings, metavar): default}
    for spelling, default in rows.items():
        names = re.findall(r"(?<![a-z])--?[a-z-]+", spelling)
        metavar = re.search(r" ([A-Z:]+)`", spelling)
        documented[tuple(names), metavar[1] if metavar else None] = default
    expected = {}
    for parameter in tercet.commands[name].params:
        if not isinstance(parameter, click.Option):
            assert parameter.make_metavar(click.Context(tercet)).strip("[]") in section
            continue
        if parameter.is_flag:
            stated = "off"
        elif not isinstance(parameter.default, str | tuple):
            stated = "none"
        else:
            values = (parameter.default,) if isinstance(parameter.default, str) else parameter.default
            stated = ", ".join(f"`{value}`" for value in values)
        expected[tuple(parameter.opts), None if parameter.is_flag else parameter.metavar] = stated
    assert documented == expected


def test_exit_status() -> None:
    stated = {int(number) for number in re.findall(r"^\| (\d+) \|", SECTIONS["Exit status"], re.MULTILINE)}
    assert stated == {code.value for code in ExitCode}

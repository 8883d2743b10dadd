"""How much memory there is: the machine's, the control group's, or nobody knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tercet_broker.runtime import memory


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the control group's limit."""
    path = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUPS", (path,))
    return path


def _unknown(name: str) -> int:
    raise ValueError(f"unrecognized configuration name {name}")


def test_share_is_of_the_control_group_where_that_has_less(group: Path) -> None:
    group.write_text("1000000\n")
    assert memory.memory_share() == 800_000


@pytest.mark.parametrize("limit", ["max", None])
def test_share_is_of_the_machine_without_a_limit(group: Path, limit: str | None) -> None:
    if limit is not None:
        group.write_text(limit)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.memory_share() == int(0.8 * machine)


def test_share_is_nothing_where_nothing_is_known(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", _unknown)
    assert memory.memory_share() == 0


def test_resident_size_is_that_of_a_python_process() -> None:
    assert 1 << 20 < memory.resident_bytes() < 1 << 40


def test_resident_size_is_zero_where_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FileNotFoundError("/proc/self/statm")

    monkeypatch.setattr("builtins.open", refuse)
    size = memory.resident_bytes()
    monkeypatch.undo()
    assert size == 0

"""What an assertion that failed looked at."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

from tercet_testing.values import values_in


class _Moody:
    @property
    def mood(self) -> str:
        raise RuntimeError("not today")


def test_names_and_attributes_are_told() -> None:
    lobby = SimpleNamespace(seated=["ann", "bob"], free=0)
    limit = 1
    frame = inspect.currentframe()
    assert frame is not None
    assert values_in("assert len(lobby.seated) <= limit or lobby.free", frame) == [
        ("lobby.seated", "['ann', 'bob']"),
        ("limit", "1"),
        ("lobby.free", "0"),
    ]
    assert (lobby, limit) == (lobby, 1)


def test_what_cannot_be_told_is_left_out() -> None:
    moody = _Moody()
    frame = inspect.currentframe()
    assert frame is not None
    assert values_in("assert moody.mood == unknown.name", frame) == []
    assert values_in("assert all(", frame) == []
    assert values_in("raise moody", frame) == []
    assert values_in("", frame) == []
    assert isinstance(moody, _Moody)

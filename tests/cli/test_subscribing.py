"""What `tercet subscribe` writes for what comes: messages, and gaps where they are."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

import tercet
from tercet_broker.cli.output import open_output
from tercet_broker.cli.subscribing import copy
from tercet_protocol import Position


def message(seq: int) -> tercet.Message:
    return tercet.Message("a/x", seq, "e", 0, b'"text"', retained=False)


async def events() -> AsyncGenerator[tercet.Message | tercet.Gap | tercet.Live]:
    yield tercet.Live(Position("e", 1))
    yield message(2)
    yield tercet.Gap("a", "e", 2, 5, None, tercet.GapReason.EXPIRED)
    yield message(6)
    yield message(7)


@pytest.mark.parametrize(
    ("form", "expected"),
    [("raw", ["text", "text"]), ("json", ['"seq":2', '"after":2,"through":5', '"seq":6']), ("text", ["a/x", "a/x"])],
)
async def test_copy_writes_until_the_count(form: str, expected: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    async with aclosing(events()) as coming, open_output(write) as output:
        await copy(coming, output, form, 2)  # type: ignore[arg-type]
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line
    assert "gap" in capfd.readouterr().err

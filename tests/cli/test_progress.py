"""The bar of `tercet publish --lines`: for a person at a terminal, and for nobody else."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tercet_broker.cli.progress import progress_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_file", [True, False])
def test_progress_counts_messages_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_file: bool) -> None:
    """A file has an end that the bar leads to; a pipe has none, and what came is counted."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    path = tmp_path / "lines"
    path.write_bytes(b"x\n" * 1000)
    descriptors = (os.open(path, os.O_RDONLY),) if is_file else os.pipe()
    try:
        with progress_of(descriptors[0]) as advance:
            for _ in range(1000):
                advance(1, 2)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert "1,000 messages" in terminal.getvalue()


def test_progress_shows_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_of(0) as advance:
        advance(1, 2)
    assert pipe.getvalue() == ""

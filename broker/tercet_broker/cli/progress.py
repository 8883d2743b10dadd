"""The bar that shows how far `tercet publish --lines` is."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_UPDATE_EVERY = 16  # messages


class Advance(Protocol):
    """Tells of progress."""

    def __call__(self, messages: int, size: int) -> None:
        """Count `messages` more, which took `size` bytes of the input."""


def no_progress(messages: int, size: int) -> None:
    """Show nothing."""


@contextmanager
def progress_of(descriptor: int) -> Iterator[Advance]:
    """Show how far the input `descriptor` is read, on standard error if that is a terminal.

    For a file it is a bar with an end; for a pipe, which has none, a count.
    """
    if not sys.stderr.isatty():
        yield no_progress
        return
    from rich import progress as rich  # noqa: PLC0415 - for a person who watches, and for nobody else
    from rich.console import Console  # noqa: PLC0415

    status = os.fstat(descriptor)
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    columns = (
        rich.TextColumn("{task.fields[messages]:,} messages"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("publish", total=total, messages=0)
        count = done = 0

        def advance(messages: int, size: int) -> None:
            nonlocal count, done
            count += messages
            done += size
            # The bar takes a lock and some microseconds each time.
            if count % _UPDATE_EVERY == 0:
                bar.update(task, completed=done, messages=count)

        try:
            yield advance
        finally:
            bar.update(task, completed=done, messages=count)

"""Standard output for a stream of lines: in large pieces while they come fast, at once while they do not."""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

MAX_WAITING = 1024 * 1024
"""Bytes that may wait to be written before `Output.write` waits."""


class Output:
    """Lines on their way to a file descriptor. Make one with `open_output`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._closing = False
        self._work = trio.Event()  # there is something to write, or we are closing
        self._room = trio.Event()  # the writer has taken what waited

    async def write(self, line: bytes) -> None:
        """Add a line. It is a checkpoint only while whoever reads is slower than lines come.

        Raises:
            BrokenPipeError: nobody reads any more (out of the block of `open_output`).
        """
        self._waiting += line
        self._work.set()
        while len(self._waiting) > MAX_WAITING:
            self._room = trio.Event()
            await self._room.wait()

    def close(self) -> None:
        """Let `run` end once everything is written."""
        self._closing = True
        self._work.set()

    async def run(self) -> None:
        """Write what comes until `close`."""
        while self._waiting or not self._closing:
            await self._work.wait()
            self._work = trio.Event()
            if self._closing:
                self._work.set()
            piece, self._waiting = bytes(self._waiting), bytearray()
            self._room.set()
            # In a thread: a pipe that is full must not hold up the connection's
            # heartbeat. What comes in meanwhile makes up the next piece.
            await trio.to_thread.run_sync(_write_all, self._descriptor, piece, abandon_on_cancel=True)


def _write_all(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # whoever shares the terminal with us has made it non-blocking
            select.select([], [descriptor], [])


@asynccontextmanager
async def open_output(descriptor: int) -> AsyncIterator[Output]:
    """Give an `Output`. Leaving the block writes what is left, also after an error, but not on cancellation."""
    output = Output(descriptor)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.run)
        try:
            yield output
        except Exception as error:  # noqa: BLE001 - raised again below: in here it would cancel the writer
            failure = error
        output.close()
    if failure is not None:
        raise failure

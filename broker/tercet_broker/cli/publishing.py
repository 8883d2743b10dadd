"""What `tercet publish` does."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol

import click
import msgspec
import trio
from attrs import define, field, frozen

import tercet
import tercet_protocol

from ..printable import printable
from . import client
from .connection import Endpoint
from .exits import Failure, InputFailure
from .progress import Advance, progress_of

STDIN = 0

WINDOW = 1024
"""Publishes that may be on their way at once."""

KEYS = 25_000
"""Messages that get an idempotency key within `KEY_SECONDS`: a quarter of what a broker remembers by default."""

KEY_SECONDS = 300.0

CHUNK = 256 * 1024
"""Bytes that one read takes from standard input."""

MAX_LINE = 64 * 1024 * 1024
"""Bytes of the longest line that is read; far more than a broker takes, and not all memory."""


@frozen
class Target:
    """Where messages go.

    Attributes:
        endpoint: the broker.
        topic: valid.
        retain: whether to keep each as the topic's last value.
        token: what the broker knows us by, or None.
    """

    endpoint: Endpoint
    topic: str
    retain: bool
    token: str | None = field(default=None, repr=False)

    def connect(self) -> AbstractAsyncContextManager[tercet.Client]:
        """Connect to the broker."""
        return client.connect(self.endpoint, self.token)


def text_value(text: str) -> tercet.Raw:
    """Return a text as a JSON string.

    Raises:
        UnicodeEncodeError: it is no Unicode (a shell passed bytes that are not UTF-8).
    """
    return tercet.Raw(msgspec.json.encode(text))


def json_value(data: str | bytes) -> tercet.Raw:
    """Return JSON text as data that is sent byte for byte.

    Raises:
        UnicodeEncodeError: as for `text_value`.
        ValueError: it is not one JSON value.
    """
    return tercet_protocol.check_json(data.encode() if isinstance(data, str) else data)


def publish_one(target: Target, value: tercet.Raw) -> None:
    """Publish one message and print its position."""

    async def command() -> None:
        async with target.connect() as connected:
            published = await connected.publish(target.topic, value, retain=target.retain)
        click.echo(str(published.position))

    client.run(command)


def publish_input(target: Target, *, as_json: bool) -> None:
    """Publish each line of standard input."""

    async def command() -> None:
        with progress_of(STDIN) as advance:
            async with target.connect() as connected:
                await publish_lines(connected, target, partial(_read, STDIN), as_json=as_json, advance=advance)

    client.run(command)


async def _read(descriptor: int) -> bytes:
    """Read what there is of `descriptor`; empty at its end.

    A thread does it, because a file, a pipe and a terminal have no way in
    common to wait for them. On Ctrl-C it is left behind: it holds no lock
    that the interpreter would wait for at its exit.
    """
    return await trio.to_thread.run_sync(os.read, descriptor, CHUNK, abandon_on_cancel=True)


class Read(Protocol):
    """Reads some bytes; none at the end."""

    async def __call__(self) -> bytes:
        """Wait for the next bytes."""


async def publish_lines(
    connected: tercet.Client, target: Target, read: Read, *, as_json: bool, advance: Advance
) -> None:
    """Publish each line that `read` brings, in order, and wait until all are published.

    Raises:
        InputFailure: a line is not what it should be; all before it are published.
        Failure: the broker refused one, or is gone; it says how many are published.
    """
    convert = _json_line if as_json else _text_line
    lines = LineSplitter()
    keys = KeyBudget()
    failure: InputFailure | None = None
    keyed, bare = connected.pipeline(window=WINDOW), connected.pipeline(window=WINDOW, keyed=False)

    async def publish(line: bytes) -> None:
        # Both go out over the one connection in the order of these calls.
        out = keyed if keys.take(trio.current_time()) else bare
        await out.publish(target.topic, convert(line, lines.count), retain=target.retain)

    try:
        async with keyed, bare:
            try:
                while chunk := await read():
                    for line in lines.feed(chunk):
                        await publish(line)
                        advance(1, len(line) + 1)
                for line in lines.finish():
                    await publish(line)
                    advance(1, len(line))
            except InputFailure as error:
                failure = error  # the pipelines end in peace: what they have taken is published
    except tercet.TercetError as error:
        count = keyed.published + bare.published
        raise Failure(printable(f"{error} ({count} lines are published)")) from error
    if failure is not None:
        raise failure


@define(eq=False)
class KeyBudget:
    """Decides which messages get an idempotency key.

    With one, a message survives a broken connection. But a broker remembers
    only so many, and refuses what comes beyond: a large file must do without,
    and a break then ends the command with an error.
    """

    _left: int = field(default=0, init=False)
    _until: float = field(default=-math.inf, init=False)

    def take(self, now: float) -> bool:
        """Tell whether the next message gets a key; `now` is in seconds."""
        if now >= self._until:
            self._left, self._until = KEYS, now + KEY_SECONDS
        self._left -= 1
        return self._left >= 0


def _text_line(line: bytes, number: int) -> tercet.Raw:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InputFailure(
            f"line {number} of standard input is not UTF-8: byte 0x{line[error.start]:02x} at its byte "
            f"{error.start + 1}; {_published(number)}"
        ) from error
    return tercet.Raw(msgspec.json.encode(text))


def _json_line(line: bytes, number: int) -> tercet.Raw:
    try:
        return json_value(line)
    except ValueError as error:
        raise InputFailure(f"line {number} of standard input is {error}; {_published(number)}") from error


def _published(number: int) -> str:
    return "nothing was published" if number == 1 else f"the {number - 1} before it were published"


@define(eq=False)
class LineSplitter:
    r"""Cuts bytes into lines at `\n`, and at nothing else.

    Attributes:
        count: the number of the line handed out last, from 1.
    """

    count: int = field(default=0, init=False)
    _start: list[bytes] = field(factory=list, init=False)  # of a line whose end has not come yet
    _size: int = field(default=0, init=False)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Return the lines that end in `chunk`, to be read before the next call.

        Raises:
            InputFailure: (on reading them) a line is longer than `MAX_LINE`.
        """
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self.count += 1
            yield b"".join((*self._start, piece)) if self._start else piece
            self._start.clear()
            self._size = 0
        if rest:
            self._start.append(rest)
            self._size += len(rest)
            if self._size > MAX_LINE:
                number = self.count + 1
                raise InputFailure(
                    f"line {number} of standard input is longer than {MAX_LINE} bytes; {_published(number)}"
                )

    def finish(self) -> Iterator[bytes]:
        """Return the last line if no newline ended it."""
        if self._start:
            self.count += 1
            yield b"".join(self._start)
            self._start.clear()

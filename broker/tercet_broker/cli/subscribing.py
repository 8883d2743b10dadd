"""What `tercet subscribe` does."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Literal

import click
from attrs import field, frozen

import tercet

from ..printable import printable
from . import client
from .connection import Endpoint
from .lines import FORMATS, gap_line
from .output import Output, open_output

STDOUT = 1


@frozen
class Source:
    """What to subscribe to, and where.

    Attributes:
        endpoint: the broker.
        filter: a valid filter.
        last: how many kept messages come first.
        since: the position after which to begin.
        token: what the broker knows us by, or None.
    """

    endpoint: Endpoint
    filter: str
    last: int | None
    since: tercet.Position | None
    token: str | None = field(default=None, repr=False)


def print_messages(source: Source, form: Literal["text", "json", "raw"], count: int | None) -> None:
    """Print what comes until `count` messages are printed, or for ever."""

    async def command() -> None:
        async with (
            open_output(STDOUT) as output,
            client.connect(source.endpoint, source.token) as connected,
            connected.subscribe(source.filter, last=source.last, since=source.since) as subscription,
        ):
            await copy(subscription.events(), output, form, count)

    client.run(command)


async def copy(
    events: AsyncIterable[tercet.Message | tercet.Gap | tercet.Live],
    output: Output,
    form: Literal["text", "json", "raw"],
    count: int | None,
) -> None:
    """Write messages to `output`, and gaps to standard error, until `count` messages or the end."""
    to_line = FORMATS[form]
    left = count
    async for event in events:
        match event:
            case tercet.Message():
                await output.write(to_line(event))
                if left is not None:
                    left -= 1
                    if left == 0:
                        return
            case tercet.Gap():
                click.echo(printable(f"tercet: gap: {event}"), err=True)
                if form == "json":
                    await output.write(gap_line(event))
            case _:
                pass  # where live begins is nothing to print

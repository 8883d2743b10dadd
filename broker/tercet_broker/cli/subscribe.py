"""`tercet subscribe`: prints what is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .connection import Endpoint, connection_options

if TYPE_CHECKING:
    from tercet_protocol import Position


def _parse_since(_: click.Context, __: click.Parameter, text: str | None) -> Position | None:
    from tercet_protocol import Position  # noqa: PLC0415 - msgspec, which other commands do not need

    if text is None:
        return None
    try:
        return Position.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("filter_", metavar="FILTER")
@click.option("--last", metavar="N", type=click.IntRange(min=1), help="First print the newest N kept messages.")
@click.option(
    "--since",
    metavar="EPOCH:SEQ",
    callback=_parse_since,
    help="First print what was published after this position, as printed by publish and --json.",
)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after N messages.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, gaps included.")
@click.option("--raw", is_flag=True, help="Print the data alone; of a JSON string, its text.")
@connection_options
def subscribe(  # noqa: PLR0913 - the options of the command
    filter_: str,
    last: int | None,
    since: Position | None,
    count: int | None,
    endpoint: Endpoint,
    *,
    as_json: bool,
    raw: bool,
) -> None:
    """Print each message whose topic matches FILTER, until Ctrl-C.

    In a FILTER, + stands for one level and # at the end for everything below:
    prices/+ or 'chat/#' (the shell wants # in quotes). A topic's retained
    value comes first.

    If the connection breaks, it is made again and goes on where it was. What
    may be missing nevertheless is told on standard error, as a gap.

    \b
    Formats:
      prices/AAPL {"bid":187.2}                   TOPIC DATA, the default
      {"topic":"prices/AAPL","seq":58,...}        --json: also epoch, time, data, retained;
                                                  and {"gap":{...}} where messages may be missing
      {"bid":187.2}                               --raw

    \b
    Examples:
      tercet subscribe prices/AAPL
      tercet subscribe 'prices/#' --last 10 --json
      tercet subscribe prices/+ --since 9f1c:57
      tercet subscribe logs/web --raw --count 100 > first.txt
    """  # noqa: D301 - click wants the control character
    if last is not None and since is not None:
        raise click.UsageError("--last and --since exclude each other")
    if as_json and raw:
        raise click.UsageError("--json and --raw exclude each other")
    from tercet_protocol import TopicError, parse_filter  # noqa: PLC0415 - as above

    try:
        parsed = parse_filter(filter_)
    except TopicError as error:
        raise click.BadParameter(str(error), param_hint="FILTER") from error
    if parsed.namespace is None and (last is not None or since is not None):
        raise click.UsageError(
            f"{filter_!r} spans namespaces and is live only: "
            "--last and --since need a FILTER whose first level is a name"
        )
    from . import subscribing  # noqa: PLC0415 - trio and the client
    from .client import read_token  # noqa: PLC0415 - likewise

    subscribing.print_messages(
        subscribing.Source(endpoint, filter_, last, since, read_token(endpoint.token_file)),
        "json" if as_json else "raw" if raw else "text",
        count,
    )

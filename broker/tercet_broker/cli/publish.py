"""`tercet publish`: one message, or each line of standard input."""

from __future__ import annotations

import shlex

import click

from .connection import Endpoint, connection_options


@click.command()
@click.argument("topic")
@click.argument("data", required=False)
@click.option("--text", is_flag=True, help="DATA is a text; send it as a JSON string.")
@click.option("--retain", is_flag=True, help="Keep it as the topic's last value, for those who subscribe later.")
@click.option("--lines", is_flag=True, help="Send each line of standard input, as a JSON string.")
@click.option("--json", "as_json", is_flag=True, help="With --lines: each line is a JSON value, sent as it is.")
@connection_options
def publish(  # noqa: PLR0913 - the options of the command
    topic: str,
    data: str | None,
    endpoint: Endpoint,
    *,
    text: bool,
    retain: bool,
    lines: bool,
    as_json: bool,
) -> None:
    """Publish DATA, a JSON value, to TOPIC, and print its position.

    A text is quoted for JSON and, in most shells, once more for the shell; or
    use --text. DATA that begins with a minus goes after "--".

    With --lines, each line of standard input is one message, sent as it
    arrives, without its newline and with everything else; standard input is
    UTF-8. On a terminal, a bar shows the progress.

    \b
    Examples:
      tercet publish prices/AAPL '{"bid": 187.2}'
      tercet publish greetings/world '"hello"'
      tercet publish greetings/world --text hello
      tercet publish status/web --retain true
      tercet publish temperature/oslo -- -12.5
      tail -f /var/log/syslog | tercet publish logs/web --lines
    """  # noqa: D301 - click wants the control character
    _check_usage(data, text=text, lines=lines, as_json=as_json)
    # These bring in trio and the client.
    from tercet_protocol import TopicError, split_topic  # noqa: PLC0415

    from . import publishing  # noqa: PLC0415
    from .client import read_token  # noqa: PLC0415

    try:
        split_topic(topic)
    except TopicError as error:
        raise click.BadParameter(str(error), param_hint="TOPIC") from error
    where = publishing.Target(endpoint, topic, retain, read_token(endpoint.token_file))
    if data is None:
        publishing.publish_input(where, as_json=as_json)
        return
    try:
        value = publishing.text_value(data) if text else publishing.json_value(data)
    except UnicodeEncodeError as error:
        raise click.BadParameter("it is not UTF-8", param_hint="DATA") from error
    except ValueError as error:
        raise click.BadParameter(f"{error}{_quoting(topic, data)}", param_hint="DATA") from error
    publishing.publish_one(where, value)


def _check_usage(data: str | None, *, text: bool, lines: bool, as_json: bool) -> None:
    if lines and data is not None:
        raise click.UsageError("with --lines the data comes from standard input: give a TOPIC alone")
    if not lines and data is None:
        raise click.UsageError("DATA is missing; to send standard input, use --lines")
    if as_json and not lines:
        raise click.UsageError("--json goes with --lines; DATA is JSON anyway")
    if text and lines:
        raise click.UsageError("--text goes with DATA; with --lines each line is sent as a text anyway")


def _quoting(topic: str, data: str) -> str:
    """Show how the text that was probably meant is written."""
    import json  # noqa: PLC0415 - only for this

    quoted = shlex.quote(json.dumps(data, ensure_ascii=False))
    return (
        "\n\nTo send it as a text, quote it for JSON and for the shell:"
        f"\n  tercet publish {shlex.quote(topic)} {quoted}"
        "\nor let --text do it:"
        f"\n  tercet publish {shlex.quote(topic)} --text {shlex.quote(data)}"
    )

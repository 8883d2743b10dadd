"""`tercet serve`: the daemon."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration, a TOML file. Without one: 127.0.0.1:8080, everything at its default.",
)
@click.option(
    "-b",
    "--bind",
    metavar="HOST:PORT",
    help="Listen here alone, without TLS; replaces the listeners of the configuration.",
)
@click.option("--trace", is_flag=True, help="Show every frame of every connection on standard error.")
@click.pass_context
def serve(context: click.Context, config_file: Path | None, bind: str | None, *, trace: bool) -> None:
    """Run the broker until SIGTERM or Ctrl-C.

    Prints "listening on URL", a line for each listener, once clients can
    connect; everything else goes to standard error. The first signal drains:
    clients are told, queues are flushed, connections are closed over a few
    seconds. A second one stops at once.

    All messages are kept in memory, and are gone when it ends.

    \b
    Examples:
      tercet serve
      tercet serve --bind 127.0.0.1:9000 --trace
      tercet serve --config tercet.toml
    """  # noqa: D301 - click wants the control character
    from .serving import serve_file  # noqa: PLC0415 - the whole broker, trio, cattrs and structlog

    context.exit(serve_file(config_file, bind, trace=trace))

"""`tercet check`: reads a configuration file as `serve` would."""

from __future__ import annotations

from pathlib import Path

import click

from .exits import ExitCode


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Print problems and warnings, and no configuration.")
@click.pass_context
def check(context: click.Context, file: Path, *, quiet: bool) -> None:
    """Check a configuration FILE and print what it comes to.

    Prints the effective configuration, every default filled in, as TOML that
    can be used as a configuration itself. If anything is wrong, prints every
    problem on standard error instead, each with its path, and exits with 2.
    Warnings go there too, and change nothing.

    \b
    Examples:
      tercet check tercet.toml
      tercet check tercet.toml > effective.toml
      tercet check --quiet tercet.toml && kill -HUP PID
    """  # noqa: D301 - click wants the control character
    from .. import config  # noqa: PLC0415 - cattrs and structlog would slow down every other command

    try:
        loaded = config.load(file)
    except config.ConfigError as error:
        click.echo(str(error), err=True)
        context.exit(ExitCode.USAGE)
    for warning in (*config.warnings(loaded), *config.key_warnings(loaded)):
        click.echo(f"{file}: warning: {warning}", err=True)
    if not quiet:
        click.echo(config.render(loaded), nl=False)

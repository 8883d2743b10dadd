"""The command itself, and what happens to errors and Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import click

from .certificate import certificate
from .check import check
from .exits import ExitCode
from .publish import publish
from .serve import serve
from .subscribe import subscribe
from .token import token

_GROUP = "tercet.commands"
_EPILOG = """\
\b
Try it, in three terminals:
  tercet serve
  tercet subscribe 'greetings/#'
  tercet publish greetings/world '"hello"'
"""


class _Commands(click.Group):
    """Our commands, and those that installed packages offer under the entry point `tercet.commands`.

    So the layers above, such as `tercet_testing`, have commands without this
    one knowing them.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            for point in entry_points(group=_GROUP, name=cmd_name):
                loaded = point.load()
                if isinstance(loaded, click.Command):
                    return loaded
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(package_name="tercet", prog_name="tercet", message="%(prog)s %(version)s")
def tercet() -> None:
    """A publish/subscribe broker over WebSockets, and its tools.

    Each command explains itself: tercet COMMAND --help.
    """


for _command in (serve, check, publish, subscribe, certificate, token):
    tercet.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, `sys.argv` unless given, and return the exit status (see `ExitCode`)."""
    try:
        result = tercet.main(args=arguments, prog_name="tercet", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption) and error.option_name[1:2] in {*"0123456789."}:
            click.echo("A value that begins with a minus goes after '--', as in: -- -12.5", err=True)
        return error.exit_code
    except (BrokenPipeError, SystemExit):
        # SystemExit is click's own answer to a closed pipe. Outside its
        # standalone mode it has no other use for it, and nor have the commands.
        _forget_output()
        return ExitCode.FINE
    return result if isinstance(result, int) else ExitCode.FINE


def _forget_output() -> None:
    """Let Python's flush at exit go nowhere, now that nobody reads standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

"""How a command ends."""

from __future__ import annotations

import enum

import click


class ExitCode(enum.IntEnum):
    """The exit status of `tercet`."""

    FINE = 0  # also when whoever read our output went away
    FAILED = 1  # refused by the broker, no connection, an address in use
    USAGE = 2  # a wrong argument, a wrong configuration file, input that is not what it should be
    INTERRUPTED = 130  # Ctrl-C (128 + SIGINT, as shells have it)


class Failure(click.ClickException):
    """Something did not work: one sentence on standard error, exit status 1."""

    exit_code = ExitCode.FAILED


class InputFailure(Failure):
    """The configuration or the input is wrong: exit status 2."""

    exit_code = ExitCode.USAGE


def first_of(error: BaseException) -> BaseException:
    """Return the first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

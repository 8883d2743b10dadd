"""What `tercet serve` does: a daemon, and what a person has to be told about it."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import click
import trio

from .. import config
from ..core import BrokerSettings, HistorySettings, NamespaceSettings
from ..core.settings import HANDOVER_BYTES
from ..runtime import Daemon, raise_descriptor_limit
from ..runtime.address import parse_bind
from ..runtime.settings import DaemonSettings, ListenerSettings
from .exits import ExitCode, Failure, InputFailure, first_of
from .memory import spare_the_collector
from .source import Source, apply_to_log
from .trace import Trace

# What is served without a configuration: every namespace has a short history,
# so that the first tries of `last`, `history` and a resume find something. In
# bytes it is no more than the handover run that each has anyway.
_EMBEDDED = config.Config(
    daemon=DaemonSettings(
        broker=BrokerSettings(unnamed=NamespaceSettings(history=HistorySettings(messages=1000, bytes=HANDOVER_BYTES)))
    )
)


class Servant(Protocol):
    """What of a `Daemon` is used here."""

    async def run(
        self,
        *,
        signals: bool = False,
        task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run until told to stop; see `tercet_broker.runtime.Daemon`."""


def serve_file(file: Path | None, bind: str | None, *, trace: bool = False) -> ExitCode:
    """Serve as `file` says, or by default; `bind` replaces its listeners.

    Raises:
        InputFailure: the configuration is wrong.
        click.BadParameter: `bind` is.
        Failure: a listener cannot be opened.
    """
    try:
        loaded = _EMBEDDED if file is None else config.load(file)
    except config.ConfigError as error:
        raise InputFailure(str(error)) from error
    listener = None if bind is None else _plain_listener(bind)
    daemon_settings = loaded.daemon if listener is None else attrs.evolve(loaded.daemon, listeners=(listener,))
    apply_to_log(loaded)
    raise_descriptor_limit()
    source = None if file is None else Source(file, listener)
    try:
        daemon = Daemon(
            daemon_settings,
            tracer=Trace(sys.stderr) if trace else None,
            source=None if source is None else source.read,
        )
    except (OSError, ValueError) as error:  # a key file has changed since it was loaded
        raise Failure(f"cannot use the configuration: {error}") from error
    if source is not None:
        daemon.reload_hooks.append(source.prepare)
    spare_the_collector()
    return trio.run(run, daemon, [one.bind for one in daemon_settings.listeners])


def _plain_listener(bind: str) -> ListenerSettings:
    try:
        address = parse_bind(bind)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--bind") from error
    if not address.is_loopback:
        raise click.BadParameter(
            f"{address} can be reached from other machines, and --bind has no TLS. Write a configuration file with "
            "a [[listener]] that has tls, or insecure = true",
            param_hint="--bind",
        )
    return ListenerSettings(bind)


async def run(daemon: Servant, binds: Sequence[str], say: Callable[[str], None] = click.echo) -> ExitCode:
    """Run `daemon`, say where it listens, and return the exit status.

    Raises:
        Failure: it could not listen.
    """
    listening = False
    try:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(partial(daemon.run, signals=True))
            listening = True
            with suppress(BrokenPipeError):  # nobody has to read it
                for url in urls:
                    say(f"listening on {url}")
    except* KeyboardInterrupt:
        # Only before the daemon has set up its own handling.
        return_code = ExitCode.INTERRUPTED
    except* OSError as group:
        if listening:
            raise
        raise Failure(_explain(first_of(group), binds)) from group
    else:
        return_code = ExitCode.FINE
    return return_code


def _explain(error: BaseException, binds: Sequence[str]) -> str:
    """Say why a listener could not be opened."""
    place, reason = " or ".join(binds), str(error)
    if isinstance(error, OSError) and error.strerror:
        # The daemon puts the listener into the text of the system's error.
        prefix, named, rest = error.strerror.partition("cannot listen on ")
        bind, separator, rest = rest.rpartition(": ")
        reason = error.strerror
        if named and separator and not prefix:
            place, reason = bind, rest
        elif isinstance(error.filename, str):
            place = error.filename
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {place}: there is no such host"
    match getattr(error, "errno", None):
        case errno.EADDRINUSE:
            return f"cannot listen on {place}: the address is in use. Is another broker running? See --bind"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {place}: this machine has no such address"
        case errno.EACCES if not place.startswith("unix:"):
            return f"cannot listen on {place}: not permitted. Ports below 1024 need privileges"
        case _:
            return f"cannot listen on {place}: {reason}"

"""Where the settings of a running daemon come from: a file, which may say something else by now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import structlog
from attrs import define, field

from .. import config, logs
from ..runtime.settings import DaemonSettings, ListenerSettings

log = structlog.get_logger("tercet")


@define(eq=False)
class Source:
    """A configuration file; its `read` and `prepare` are a `Daemon.source` and one of its `reload_hooks`.

    Attributes:
        file: is read again at each reload.
        listener: takes the place of the listeners that it names, unless None.
    """

    file: Path
    listener: ListenerSettings | None = None
    _read: config.Config | None = field(default=None, init=False, repr=False)  # what a reload is about

    def read(self) -> DaemonSettings:
        """Return what the file says now. Nothing of it is in force before `prepare` and what that returns.

        Raises:
            ConfigError: it is wrong.
        """
        self._read = config.load(self.file)
        settings = self._read.daemon
        return settings if self.listener is None else attrs.evolve(settings, listeners=(self.listener,))

    def prepare(self, _: DaemonSettings) -> Callable[[], None]:
        """Return what puts the log's part of what was read into force, and warns of the rest there."""
        loaded = self._read

        def commit() -> None:
            if loaded is not None:
                apply_to_log(loaded)

        return commit


def apply_to_log(loaded: config.Config) -> None:
    """Let the log be as a configuration says, and warn there of what is doubtful in it."""
    logs.configure(loaded.logging)
    for warning in config.warnings(loaded):
        log.warning("doubtful configuration", option=warning.path, reason=warning.message)

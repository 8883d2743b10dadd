"""The daemon's log: structlog, one line an event, on standard error.

Standard output is left to what a program may read, such as the line that
tells that the broker listens.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast, get_args

import structlog
from attrs import field, frozen, validators
from structlog.typing import EventDict, Processor, WrappedLogger

from .printable import printable

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]

LEVELS: tuple[Level, ...] = get_args(Level)
FORMATS: tuple[Format, ...] = get_args(Format)


@frozen
class LoggingSettings:
    """What is logged, and how.

    Attributes:
        level: the least serious level that is written.
        format: `console` for people, `json` for programs, one object a line; `auto` is
            `console` on a terminal and `json` elsewhere.
    """

    level: Level = field(default="info", validator=validators.in_(LEVELS))
    format: Format = field(default="auto", validator=validators.in_(FORMATS))


def configure(settings: LoggingSettings, stream: TextIO | None = None) -> None:
    """Set up structlog for the whole process; `stream` is standard error unless given.

    Values bound with `structlog.contextvars` follow Trio's tasks, so a line
    of a connection's task says whose it is. A line below `level` costs next
    to nothing: its method is replaced by one that does nothing.
    """
    out = sys.stderr if stream is None else stream
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    render: list[Processor]
    if as_json:
        render = [_render_json]
    else:
        render = [
            _escape_values,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Sink(out))),
        cache_logger_on_first_use=False,  # `configure` may come after a module has made its logger
    )


@frozen
class _Sink:
    """A stream that loses what cannot be written, and does not raise.

    Clients have a say in how much is logged. A disk that is full of it, or
    whoever reads the pipe and has gone, must not end what is logged about.
    """

    stream: TextIO

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()


def _escape_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what the console would print as it is. Values that are not text go through repr()."""
    return {
        key: printable(value, "\n\t" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


_json = structlog.processors.JSONRenderer()


def _render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render one line of ASCII: JSON escapes all of the rest, but not DEL."""
    return str(_json(logger, method, event)).replace("\x7f", "\\u007f")

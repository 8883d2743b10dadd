"""The log: what it looks like, and what it keeps out."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tercet_broker import logs


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


HOSTILE = "a\x1b[2J\nfake line\x7f\x9b\u202e"


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(format="json"), stream)
    structlog.get_logger().info("connection closed", code=1000, peer=HOSTILE)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["peer"] == HOSTILE
    assert (entry["event"], entry["level"], entry["code"]) == ("connection closed", "info", 1000)
    assert "timestamp" in entry


@pytest.mark.parametrize("form", logs.FORMATS)
@pytest.mark.parametrize("value", [HOSTILE, [HOSTILE], {"x": HOSTILE}, HOSTILE.encode(), ValueError(HOSTILE)])
def test_control_characters_are_escaped(form: logs.Format, value: object) -> None:
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(format=form), stream)
    structlog.get_logger().warning(HOSTILE, value=value)
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_tracebacks_keep_their_lines_and_lose_control_characters() -> None:
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(format="console"), stream)
    try:
        raise ValueError("bad\x1b[2J")  # noqa: TRY301 - for its traceback
    except ValueError:
        structlog.get_logger().exception("fault")
    text = stream.getvalue()
    assert "Traceback (most recent call last):\n" in text
    assert "ValueError: bad\\x1b[2J" in text
    assert text.replace("\n", "").isprintable()


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    settings = logs.LoggingSettings()
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        logs.configure(settings, stream)
        structlog.get_logger().info("hello")
        assert stream.getvalue().startswith("{") is is_json


@pytest.mark.parametrize(("level", "written"), list(zip(logs.LEVELS, (4, 3, 2, 1), strict=True)))
def test_level(level: logs.Level, written: int) -> None:
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(level, "json"), stream)
    log = structlog.get_logger()
    for method in logs.LEVELS:
        getattr(log, method)("hello")
    assert len(stream.getvalue().splitlines()) == written


def test_logger_made_before_configure_follows_it() -> None:
    log = structlog.get_logger()
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(format="json"), stream)
    log.info("hello")
    assert "hello" in stream.getvalue()


async def test_bound_values_follow_the_task() -> None:
    stream = io.StringIO()
    logs.configure(logs.LoggingSettings(format="json"), stream)
    with structlog.contextvars.bound_contextvars(connection="c1"):
        structlog.get_logger().info("hello")
    structlog.get_logger().info("after")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["connection"] == "c1"
    assert "connection" not in second


@pytest.mark.parametrize(("level", "form"), [("loud", "json"), ("info", "xml")])
def test_settings_check_themselves(level: str, form: str) -> None:
    with pytest.raises(ValueError, match="must be in"):
        logs.LoggingSettings(level, form)  # type: ignore[arg-type] # what is tested


def test_stream_that_takes_nothing_raises_nothing() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    logs.configure(logs.LoggingSettings(format="json"), Full())
    structlog.get_logger().info("connection closed")


def test_disk_is_full_and_then_has_room_again() -> None:
    """What is buffered shows at `flush` that it cannot be written. Lines may be lost, and none in part."""

    class Disk(io.RawIOBase):
        written = b""
        is_full = True

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written += bytes(data)
            return len(data)

    disk = Disk()
    stream = io.TextIOWrapper(io.BufferedWriter(disk))
    logs.configure(logs.LoggingSettings(format="json"), stream)
    log = structlog.get_logger()
    for code in range(1000):  # more than the buffer takes
        log.info("connection closed", code=code)
    assert disk.written == b""
    disk.is_full = False
    log.info("connection opened")
    entries = [json.loads(line) for line in disk.written.splitlines()]
    assert entries[-1]["event"] == "connection opened"
    assert [entry["code"] for entry in entries[:-1]] == list(range(len(entries) - 1))
    assert len(entries) < 1000

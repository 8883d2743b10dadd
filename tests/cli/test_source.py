"""A configuration that is read again: what is wrong with it changes nothing, not even the log."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog

from tercet_broker import logs
from tercet_broker.cli.source import Source
from tercet_broker.runtime import Daemon, ListenerSettings
from tercet_broker.runtime.offload import in_turn

AUTH = '[[auth.token]]\nid = "a"\nuser = "a"\nhash = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAA"\n'
LISTENER = '[[listener]]\nbind = "127.0.0.1:0"\n' + AUTH
DEBUG = '[logging]\nlevel = "debug"\nformat = "json"\n'
INSECURE = '[[listener]]\nbind = "0.0.0.0:0"\ninsecure = true\n'


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is on the log."""
    stream = io.StringIO()
    monkeypatch.setattr(logs, "configure", partial(logs.configure, stream=stream))
    return stream


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write the configuration, and return where it is."""

    def write(text: str) -> Path:
        file = tmp_path / "tercet.toml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def daemon(write: Callable[[str], Path], said: io.StringIO) -> Daemon:
    logs.configure(logs.LoggingSettings(level="warning", format="json"))
    source = Source(write(LISTENER))
    daemon = Daemon(source.read(), source=source.read, offload=in_turn)
    daemon.reload_hooks.append(source.prepare)
    return daemon


def log_level(said: io.StringIO) -> str:
    """Return the least serious level that the log writes now."""
    for level in logs.LEVELS:
        before = said.tell()
        getattr(structlog.get_logger(), level)("x")
        if said.tell() > before:
            return level
    raise AssertionError("nothing is written")


async def test_log_is_as_the_file_says_once_all_of_it_is_in_force(
    daemon: Daemon, write: Callable[[str], Path], said: io.StringIO
) -> None:
    write(LISTENER + DEBUG + "[connections]\ntotal = 1\n")
    await daemon.reload_from_source()
    assert (log_level(said), daemon.reloads, daemon.admission.settings.total) == ("debug", 1, 1)


@pytest.mark.parametrize(
    "rest",
    [
        AUTH + "[limits]\nlast = -1\n",  # the file itself is wrong
        "",  # there is no `auth` any more, which takes a restart
    ],
    ids=["wrong", "refused by the daemon"],
)
async def test_log_stays_as_it_is_when_the_rest_cannot_be(
    daemon: Daemon, write: Callable[[str], Path], said: io.StringIO, rest: str
) -> None:
    """What only the daemon refuses (here: no `auth` where there was one) is in force no sooner than what is no TOML."""
    write(INSECURE + DEBUG + rest)
    await daemon.reload_from_source()
    assert "not reloaded" in said.getvalue()
    assert "insecure" not in said.getvalue(), "a warning of what is not in force"
    assert (log_level(said), daemon.reloads) == ("warning", 0)


async def test_what_is_insecure_is_warned_of_when_it_is_in_force(
    daemon: Daemon, write: Callable[[str], Path], said: io.StringIO
) -> None:
    write(INSECURE + AUTH)
    await daemon.reload_from_source()
    assert "insecure" in said.getvalue()


def test_listener_of_the_command_line_takes_the_place_of_the_files(write: Callable[[str], Path]) -> None:
    file, listener = write(LISTENER), ListenerSettings("127.0.0.1:1")
    assert Source(file, listener).read().listeners == (listener,)
    assert Source(file).read().listeners == (ListenerSettings("127.0.0.1:0"),)

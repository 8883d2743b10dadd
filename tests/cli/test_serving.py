"""`tercet serve` around a daemon: what is said when it listens, and when it cannot."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from tercet_broker.cli import main
from tercet_broker.cli.exits import ExitCode, Failure
from tercet_broker.cli.serving import run


class FakeDaemon:
    """Listens at `urls`, or fails with `error` before or after."""

    def __init__(self, *urls: str, error: Exception | None = None) -> None:
        self.urls = urls
        self.error = error

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        assert signals
        await trio.lowlevel.checkpoint()
        if self.urls:
            task_status.started(self.urls)
        if self.error is not None:
            raise self.error


async def test_run_says_a_line_for_each_listener() -> None:
    said: list[str] = []
    urls = ("ws://127.0.0.1:8080", "wss://0.0.0.0:8443")
    assert await run(FakeDaemon(*urls), [], said.append) is ExitCode.FINE
    assert said == ["listening on ws://127.0.0.1:8080", "listening on wss://0.0.0.0:8443"]


async def test_run_goes_on_when_nobody_reads_where_it_listens() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    assert await run(FakeDaemon("ws://127.0.0.1:8080"), [], say) is ExitCode.FINE


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EADDRINUSE, "x"), "cannot listen on 127.0.0.1:80: the address is in use"),
        (
            OSError(errno.EADDRINUSE, "cannot listen on [::1]:9: In use"),
            "cannot listen on [::1]:9: the address is in use",
        ),
        (OSError(errno.EADDRNOTAVAIL, "x"), "this machine has no such address"),
        (OSError(errno.EACCES, "x"), "not permitted. Ports below 1024"),
        (
            OSError(errno.ENOENT, "cannot listen on unix:/run/x: No such file"),
            "cannot listen on unix:/run/x: No such file",
        ),
        (socket.gaierror(-2, "Name or service not known"), "there is no such host"),
        (ExceptionGroup("", [OSError(errno.EADDRINUSE, "x"), OSError(errno.EINVAL, "y")]), "in use"),
        (OSError("something odd"), "something odd"),
    ],
)
async def test_run_explains_why_it_cannot_listen(error: Exception, says: str) -> None:
    with pytest.raises(Failure) as caught:
        await run(FakeDaemon(error=error), ["127.0.0.1:80"])
    assert says in caught.value.message
    assert "\n" not in caught.value.message


async def test_run_lets_a_later_fault_through() -> None:
    """An OSError of the running daemon is a bug: it must not pass for an address in use."""
    with pytest.raises(ExceptionGroup):
        await run(FakeDaemon("ws://127.0.0.1:8080", error=OSError(errno.EADDRINUSE, "x")), [], lambda _: None)


def test_address_in_use_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["serve", "--bind", bind]) == 1
    error = capsys.readouterr().err
    assert f"cannot listen on {bind}: the address is in use" in error
    assert "Traceback" not in error

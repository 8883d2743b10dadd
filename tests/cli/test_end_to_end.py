"""The command as a person starts it: processes, pipes and signals."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tercet_broker.cli import main

COMMAND = [sys.executable, "-m", "tercet_broker"]
TIMEOUT = 60  # seconds until a process counts as hung
ROOT = Path(__file__).parents[2]


def tercet(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, timeout=TIMEOUT, check=False)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, and see to it that it is gone in the end."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """Start a broker; give its process and its URLs."""
    with started("serve", *arguments) as process:
        assert process.stdout is not None
        listeners = 2 if "--config" in arguments and arguments[1].endswith("tls.toml") else 1
        lines = [process.stdout.readline().decode() for _ in range(listeners)]
        assert all(line.startswith("listening on ") for line in lines), lines
        yield process, [line.removeprefix("listening on ").strip() for line in lines]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The URL of a broker whose namespaces keep enough for the slowest subscriber."""
    file = tmp_path / "tercet.toml"
    file.write_text(
        '[[listener]]\nbind = "127.0.0.1:0"\n[default]\nhistory = { messages = 100_000 }\n[timeouts]\ndrain = 0.01'
    )
    with serving("--config", str(file)) as (_, urls):
        yield urls[0]


def test_every_byte_arrives(broker: str) -> None:
    """`publish --lines` at one end, `subscribe --raw` at the other: two equal files."""
    content = b"".join(b"line %d \t\xc3\xbc\xe2\x82\xac\r\n" % number for number in range(20_000))
    content += b"\n\x00\x0b\x1b[31m\xf0\x9f\x98\x80\n" + b"x" * 200_000 + b"\nlast"
    count = content.count(b"\n") + 1
    published = tercet("publish", "logs/web", "--lines", "--url", broker, stdin=content)
    assert (published.returncode, published.stdout, published.stderr) == (0, b"", b"")
    # Ten thousand is the most that `last` may ask for; a position has no such bound.
    first = tercet("subscribe", "logs/web", "--json", "--last", "1", "--count", "1", "--url", broker)
    epoch = json.loads(first.stdout)["epoch"]
    read = tercet("subscribe", "logs/web", "--raw", "--since", f"{epoch}:0", "--count", str(count), "--url", broker)
    assert read.returncode == 0
    assert read.stderr == b""
    assert read.stdout == content + b"\n"


def test_publish_prints_the_position_that_since_takes(broker: str) -> None:
    positions = []
    for bid in ("187.20", "187.30", "187.40"):
        run = tercet("publish", "prices/AAPL", f'{{"bid":{bid}}}', "--url", broker)
        assert (run.returncode, run.stderr) == (0, b"")
        positions.append(run.stdout.decode().strip())
    run = tercet("subscribe", "prices/+", "--since", positions[0], "--count", "2", "--url", broker)
    assert run.stdout == b'prices/AAPL {"bid":187.30}\nprices/AAPL {"bid":187.40}\n'


def test_retained_value_comes_first(broker: str) -> None:
    tercet("publish", "status/web", "--text", "up", "--retain", "--url", broker)
    run = tercet("subscribe", "status/#", "--json", "--count", "1", "--url", broker)
    message = json.loads(run.stdout)
    assert (message["topic"], message["data"], message["retained"]) == ("status/web", "up", True)


def test_endless_pipe_streams(broker: str) -> None:
    """A line is published, and printed, while the pipe is still open."""
    with (
        started("publish", "logs/web", "--lines", "--json", "--url", broker) as publisher,
        started("subscribe", "logs/web", "--last", "10", "--url", broker) as subscriber,
    ):
        assert publisher.stdin is not None
        assert subscriber.stdout is not None
        for number in range(3):
            publisher.stdin.write(b"%d\n" % number)
            publisher.stdin.flush()
            assert subscriber.stdout.readline() == b"logs/web %d\n" % number
        publisher.stdin.close()
        assert publisher.wait(TIMEOUT) == 0


def test_refused_publish_is_1(broker: str) -> None:
    run = tercet("publish", "big/one", "--text", "x" * 110_000 + "y" * 10_000, "--url", broker)
    assert run.returncode == 0
    run = tercet("publish", "big/one", "--lines", "--url", broker, stdin=b"ok\n" + b"x" * 300_000)
    assert run.returncode == 1
    assert b"too_large" in run.stderr
    assert b"1 lines are published" in run.stderr
    assert b"Traceback" not in run.stderr


def test_line_that_is_not_utf8_is_2(broker: str) -> None:
    run = tercet("publish", "logs/web", "--lines", "--url", broker, stdin=b"good\nb\xffd\n")
    assert run.returncode == 2
    assert b"line 2 of standard input is not UTF-8" in run.stderr
    kept = tercet("subscribe", "logs/web", "--raw", "--last", "5", "--count", "1", "--url", broker)
    assert kept.stdout == b"good\n"


@pytest.mark.parametrize("arguments", [("subscribe", "logs/web"), ("publish", "logs/web", "--lines")])
def test_ctrl_c_is_130_and_quiet(broker: str, arguments: tuple[str, ...]) -> None:
    with started(*arguments, "--url", broker) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Something has to show that it runs: a message that it prints or publishes.
        if arguments[0] == "subscribe":
            with started("publish", "logs/web", "--lines", "--url", broker) as publisher:
                assert publisher.stdin is not None
                while not _readable(process.stdout):
                    publisher.stdin.write(b"x\n")
                    publisher.stdin.flush()
        else:
            process.stdin.write(b"x\n")
            process.stdin.flush()
            tercet("subscribe", "logs/web", "--last", "1", "--count", "1", "--url", broker)
        process.send_signal(signal.SIGINT)
        # Not communicate(): that would close standard input, another way to end.
        assert process.wait(TIMEOUT) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""


def _readable(stream: IO[bytes]) -> bool:
    return bool(select.select([stream], [], [], 0.01)[0])


def test_reader_that_goes_away_ends_subscribe_quietly(broker: str) -> None:
    """`tercet subscribe … | head -1`."""
    tercet("publish", "logs/web", "--lines", "--url", broker, stdin=b"x\n" * 5000)
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [*COMMAND, "subscribe", "logs/web", "--last", "5000", "--url", broker],
        stdout=writer,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(writer)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_with_0_on_a_signal(number: signal.Signals) -> None:
    with serving("--bind", "127.0.0.1:0") as (process, urls):
        assert urls[0].startswith("ws://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0


def test_trace_shows_frames() -> None:
    with serving("--bind", "127.0.0.1:0", "--trace") as (process, urls):
        tercet("publish", "prices/AAPL", "1.50", "--url", urls[0])
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT)
        lines = errors.decode().splitlines()
        assert any(" <- text " in line and '"op":"publish"' in line and "1.50" in line for line in lines)
        assert any(" -> text " in line and '"op":"published"' in line for line in lines)
        assert any(" <- close 2 1000" in line for line in lines)


def test_unix_socket(tmp_path: Path) -> None:
    with serving("--bind", f"unix:{tmp_path}/tercet.sock") as (_, urls):
        run = tercet("publish", "a", "1", "--url", urls[0])
        assert (run.returncode, run.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["plain.toml", "tls.toml"])
def test_examples_serve(tmp_path: Path, name: str) -> None:
    """As they are, but for ports that the system chooses."""
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / name, tmp_path / "config")
    assert main(["certificate", str(tmp_path / "certificates")]) == 0
    file = tmp_path / "config" / name
    text = file.read_text().replace(":8080", ":0").replace(":8443", ":0")
    file.write_text(text)
    with serving("--config", str(file)) as (_, urls):
        for url in urls:
            authority = ["--ca", str(tmp_path / "certificates" / "ca.pem")] if url.startswith("wss") else []
            local = url.replace("0.0.0.0", "localhost")
            run = tercet("publish", "prices/AAPL", "1", "--url", local, *authority)
            assert (run.returncode, run.stderr) == (0, b"")
        if name == "tls.toml":
            local = urls[0].replace("0.0.0.0", "localhost")
            run = tercet("publish", "prices/AAPL", "1", "--url", local)
            assert run.returncode == 1
            assert b"certificate verify failed" in run.stderr


def test_certificate_of_the_client_names_its_user(tmp_path: Path) -> None:
    """A-001, other means: as the guide to TLS shows it. The second has a certificate that the broker does not trust."""
    for folder, name in (("broker", "localhost"), ("sensor-7", "sensor-7"), ("stranger", "sensor-7")):
        assert main(["certificate", str(tmp_path / folder), "--name", name]) == 0
    file = tmp_path / "tercet.toml"
    file.write_text("""
[[listener]]
bind = "127.0.0.1:0"
tls = { certificate = "broker/cert.pem", key = "broker/key.pem", client_ca = "sensor-7/ca.pem" }
origins = []
[[rule]]
who = ["user:sensor-7"]
allow = ["publish"]
filters = ["sensors/{user}"]
[timeouts]
drain = 0.01
""")
    with serving("--config", str(file)) as (_, (url,)):
        command = ["--url", url.replace("127.0.0.1", "localhost"), "--ca", str(tmp_path / "broker/ca.pem")]

        def shown(folder: str) -> list[str]:
            return ["--certificate", str(tmp_path / folder / "cert.pem"), "--key", str(tmp_path / folder / "key.pem")]

        run = tercet("publish", "sensors/sensor-7", "1", *command, *shown("sensor-7"))
        assert (run.returncode, run.stderr) == (0, b"")
        run = tercet("publish", "sensors/sensor-8", "1", *command, *shown("sensor-7"))
        assert b"forbidden" in run.stderr
        for without in (command, [*command, *shown("stranger")]):
            run = tercet("publish", "sensors/sensor-7", "1", *without)
            assert run.returncode == 1
            assert b"show one that it trusts: --certificate" in run.stderr

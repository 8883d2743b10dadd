"""The command line as a whole: arguments, exit status, what stands in its help."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from tercet_broker import certificates, config
from tercet_broker.cli import main, tercet
from tercet_broker.cli.certificate import DEFAULT_NAMES

COMMANDS = ["serve", "check", "publish", "subscribe", "certificate", "token"]


def test_commands_are_these() -> None:
    assert sorted(tercet.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"tercet {command} " in text
    assert "\b" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str) -> None:
    for parameter in tercet.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "tercet"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["srve"], "No such command"),
        (["serve", "--bnd", "x"], "No such option"),
        (["serve", "--bind", "8080"], "only a port"),
        (["serve", "--bind", "0.0.0.0:8080"], "can be reached from other machines"),
        (["serve", "--config", "/nonexistent.toml"], "cannot be read: No such file"),
        (["check", "/nonexistent.toml"], "cannot be read: No such file"),
        (["publish", "a"], "DATA is missing"),
        (["publish", "a", "1", "--lines"], "TOPIC alone"),
        (["publish", "a", "1", "--json"], "--json goes with --lines"),
        (["publish", "a", "--lines", "--text"], "--text goes with DATA"),
        (["publish", "a/#", "1"], "must not contain '+' or '#'"),
        (["publish", "", "1"], "must not be empty"),
        (["publish", "a", "\udcff"], "not UTF-8"),
        (["publish", "a", "--text", "\udcff"], "not UTF-8"),
        (["publish", "\udcff", "1"], "control characters"),
        (["publish", "a", "1", "--url", "http://localhost"], "ws://"),
        (["publish", "a", "1", "--url", "ws://localhost:99999"], "--url"),
        (["publish", "a", "1", "--ca", "/nonexistent.pem"], "--ca: '/nonexistent.pem' cannot be read"),
        (["publish", "a", "1", "--ca", __file__], "holds no certificate"),
        (["publish", "a", "1", "--key", __file__], "--key goes with --certificate"),
        (["publish", "a", "1", "--certificate", "/nonexistent.pem"], "'/nonexistent.pem' cannot be read: No such file"),
        (["subscribe", "a", "--certificate", __file__], "hold no certificate in PEM form and its key"),
        (["subscribe", "a#"], "must stand alone"),
        (["subscribe", "#", "--last", "3"], "spans namespaces"),
        (["subscribe", "+/a", "--since", "e:1"], "spans namespaces"),
        (["subscribe", "a", "--since", "57"], "EPOCH:SEQ"),
        (["subscribe", "a", "--since", "e:1", "--last", "1"], "exclude each other"),
        (["subscribe", "a", "--json", "--raw"], "exclude each other"),
        (["subscribe", "a", "--count", "0"], "--count"),
        (["certificate", "x", "--name", "a,b"], "neither the name nor the address"),
    ],
)
def test_wrong_usage_is_2_and_a_sentence(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_publish_shows_how_a_text_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "greetings/world", 'it\'s "me"']) == 2
    error = capsys.readouterr().err
    assert "not a JSON value" in error
    assert """tercet publish greetings/world '"it'"'"'s \\"me\\""'""" in error
    assert """tercet publish greetings/world --text 'it'"'"'s "me"'""" in error


def test_no_broker_is_1_and_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"ws+unix://{tmp_path}/nobody.sock"
    for arguments in (["publish", "a", "1"], ["subscribe", "a"]):
        assert main([*arguments, "--url", url]) == 1
        error = capsys.readouterr().err
        assert f"cannot connect to {url}" in error
        assert "Traceback" not in error


def test_import_is_light() -> None:
    """`tercet --help` must not wait for what only some commands need."""
    script = (
        "import sys; before = set(sys.modules); import tercet_broker.cli; "
        "print(*sorted(name for name in set(sys.modules) - before if '.' not in name))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"rich", "trustme", "cryptography", "tercet", "cattrs", "structlog", "msgspec", "trio"}


def test_module_is_the_same_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tercet_broker", "check", "/nonexistent.toml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "No such file" in run.stderr


def test_check_prints_what_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tercet.toml"
    file.write_text('[[listener]]\nbind = "127.0.0.1:9"\n[namespace.prices]\nhistory = {}\n')
    assert main(["check", str(file)]) == 0
    printed = capsys.readouterr().out
    assert config.parse(printed, Path("/")) == config.load(file)


def test_check_prints_all_problems_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tercet.toml"
    file.write_text("[limits]\nlast = '3'\n[timeouts]\nwrit = 3\n")
    assert main(["check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f'{file}: limits.last: must be a whole number, not the text "3" (without quotes: 3)',
        f"{file}: timeouts.writ: unknown option (did you mean 'write'?)",
    ]


def test_certificate_names_are_those_of_the_library() -> None:
    assert DEFAULT_NAMES == certificates.DEFAULT_NAMES


def test_certificate_writes_and_does_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["certificate", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    before = (folder / "key.pem").read_bytes()
    capsys.readouterr()
    assert main(["certificate", str(folder)]) == 1
    assert "exists already; --force overwrites it" in capsys.readouterr().err
    assert (folder / "key.pem").read_bytes() == before
    assert main(["certificate", str(folder), "--force"]) == 0
    assert (folder / "key.pem").read_bytes() != before


def test_certificate_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["certificate", str(tmp_path / "file" / "x")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_closed_pipe_is_quiet() -> None:
    """The reader of `tercet check` goes away before anything is printed."""
    script = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); from tercet_broker.cli import main; "
    script += f"sys.exit(main(['check', {str(Path(__file__).parents[2] / 'config/plain.toml')!r}]))"
    run = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, check=False)
    assert (run.returncode, run.stderr) == (0, b"")


def test_negative_number_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "a/b", "-5"]) == 2
    assert "goes after '--'" in capsys.readouterr().err
    assert main(["publish", "a/b", "--retian"]) == 2
    assert "goes after '--'" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("ws://127.0.0.1:{closed}", "Is the broker running there?"),
        ("wss://127.0.0.1:{plain}", "try ws://127.0.0.1:{plain}"),
        ("ws://127.0.0.1:{plain}", "answered with HTTP 400\n"),  # so it has no TLS, and there is nothing to try
    ],
)
def test_connection_that_fails_gets_a_hint(url: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = {"closed": closed, "plain": server.getsockname()[1]}

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert main(["publish", "--url", url.format(**ports), "a/b", "5"]) == 1
    assert hint.format(**ports) in capsys.readouterr().err


def test_token_over_an_open_way_is_refused_in_words_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A-005. What only a program can say (`insecure=True`) is no advice here."""
    monkeypatch.setenv("TERCET_TOKEN", "t")
    assert main(["publish", "a", "1", "--url", "ws://broker.example"]) == 2
    assert capsys.readouterr().err.endswith("use wss://\n")

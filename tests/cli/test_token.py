"""`tercet token`, and a broker that knows it: as processes, with every word that they write looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tercet_broker import certificates
from tercet_broker.cli import main
from tercet_broker.cli.client import read_token
from tercet_broker.cli.exits import InputFailure
from tercet_broker.runtime.static_tokens import hash_secret

COMMAND = [sys.executable, "-m", "tercet_broker"]
TIMEOUT = 60

CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
[default]
history = {{}}
[timeouts]
drain = 0.01
[auth]
[[auth.token]]
id = "feed"
hash = "{hash}"
user = "feed"
[[rule]]
who = ["user:feed"]
allow = ["publish", "subscribe"]
filters = ["a/#"]
"""


def test_token_and_what_the_configuration_says_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "feed-2", "--user", 'f"eed']) == 0
    output, errors = capsys.readouterr()
    token = output.strip()
    id_, _, secret = token.partition(".")
    assert id_ == "feed-2"
    assert re.fullmatch(r"[\w-]{43}", secret)
    (table,) = tomllib.loads(errors)["auth"]["token"]
    assert (table["id"], table["user"]) == ("feed-2", 'f"eed')
    assert table["hash"].startswith("$argon2id$")
    assert secret not in errors


@pytest.mark.parametrize("id_", ["", "a.b", "a b", "ü"])
def test_token_id_that_is_none(id_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", id_]) == 2
    assert "letters, digits" in capsys.readouterr().err


def test_token_over_wss_and_in_no_log(tmp_path: Path, canary: str) -> None:
    """`serve --trace` at its most talkative: every frame is shown, and no token."""
    (tmp_path / "tercet.toml").write_text(CONFIG.format(hash=hash_secret(canary)))
    certificates.write(certificates.make(["127.0.0.1"]), tmp_path)
    (tmp_path / "token").write_text(f"feed.{canary}\n")
    written = b""
    with subprocess.Popen(
        [*COMMAND, "serve", "--trace", "--config", str(tmp_path / "tercet.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().removeprefix("listening on ").strip()
            assert url.startswith("wss://")
            publish = [*COMMAND, "publish", "a/x", "1", "--url", url, "--ca", str(tmp_path / "ca.pem")]
            clean = {name: value for name, value in os.environ.items() if not name.startswith("TERCET_TOKEN")}

            def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
                return subprocess.run(
                    command, env={**clean, **environment}, capture_output=True, timeout=TIMEOUT, check=False
                )

            right = [
                run(publish, TERCET_TOKEN=f"feed.{canary}"),
                run(publish, TERCET_TOKEN_FILE=str(tmp_path / "token")),
                run([*publish, "--token-file", str(tmp_path / "token")]),
            ]
            wrong = [run(publish), run(publish, TERCET_TOKEN=f"feed.wrong-{canary}")]
            forbidden = run([*publish[:4], "b/x", *publish[5:]], TERCET_TOKEN=f"feed.{canary}")
            # What a server in front may do wrong: the token in the URL.
            wrong.append(run([*publish[:-3], f"{url}/?token={canary}", *publish[-2:]]))
        finally:
            process.terminate()
            output, errors = process.communicate(timeout=TIMEOUT)
            written = output + errors
    assert [one.returncode for one in right] == [0, 0, 0]
    assert all(one.returncode != 0 for one in wrong)
    assert b"unauthorized" in wrong[0].stderr
    assert b"unauthorized" in wrong[1].stderr
    assert b"HTTP 400" in wrong[2].stderr
    assert b"may not publish to" in forbidden.stderr
    assert b"may hold a token" in written
    assert b'"authenticated"' in written
    for one in (*right, forbidden, *wrong[:2]):
        written += one.stdout + one.stderr
    assert canary.encode() not in written


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff", None])
def test_token_file_that_holds_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputFailure, match="--token-file"):
        read_token(tmp_path / "token")


def test_token_to_another_machine_without_tls(canary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERCET_TOKEN", f"feed.{canary}")
    assert main(["publish", "a", "1", "--url", "ws://broker.example"]) != 0

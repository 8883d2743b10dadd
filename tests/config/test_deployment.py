"""What config/ holds for service managers and containers: it does what it says, as far as can be told without them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet_broker import config


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return [(instruction, arguments)], comments and line continuations resolved."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def test_dockerfile_runs_as_nobody_and_copies_what_exists(root: Path) -> None:
    lines = instructions((root / "Dockerfile").read_text())
    known = {"FROM", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in lines} <= known
    last_stage = lines[max(i for i, (name, _) in enumerate(lines) if name == "FROM") :]
    names = [name for name, _ in last_stage]
    assert ("USER", "65534:65534") in last_stage
    assert "RUN" not in names[names.index("USER") :]
    for name, arguments in lines:
        if name == "COPY" and "--from" not in arguments:
            assert (root / arguments.split()[0]).exists(), arguments
    (entry,) = [json.loads(arguments) for name, arguments in last_stage if name == "ENTRYPOINT"]
    (command,) = [json.loads(arguments) for name, arguments in last_stage if name == "CMD"]
    assert [*entry, *command] == ["tercet", "serve", "--config", "/etc/tercet/tercet.toml"]


def test_dockerignore_lets_in_what_the_build_needs(root: Path) -> None:
    allowed = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {"broker", "clients", "config", "pyproject.toml", "README.md", "LICENSE"} == set(allowed)
    assert all((root / name).exists() for name in allowed)


def python_of_nobody() -> str:
    """Return an interpreter of this version that nobody may run; the one of a virtual environment may lie in a home."""
    code = f"import sys, attrs, trio; assert sys.version_info[:2] == {tuple(sys.version_info[:2])}"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run([python, "-c", code], env=NOBODY, user=65534, check=False, capture_output=True)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("nobody may run no Python here")


NOBODY = {"PYTHONPATH": os.pathsep.join(sys.path[1:]), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_what_the_container_runs_needs_no_right_to_write(root: Path, tmp_path: Path) -> None:
    """As nobody, from a folder that it cannot write to: it serves, is healthy, drains."""
    path = tmp_path / "tercet.toml"
    text = (root / "config/container.toml").read_text()
    path.write_text(text.replace("0.0.0.0:8080", "127.0.0.1:0"))
    for folder in (path, *tmp_path.parents, tmp_path):
        if str(folder).startswith("/tmp/pytest"):  # noqa: S108 - pytest's own folders, which are private
            folder.chmod(folder.stat().st_mode | 0o055)
    with subprocess.Popen(
        [python_of_nobody(), "-B", "-m", "tercet_broker", "serve", "--config", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd="/",
        env=NOBODY,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ws://").strip()
        with urllib.request.urlopen(f"http://{url}/health", timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.needs("systemd-analyze")
def test_systemd_units_are_right_and_hardened(root: Path, tool: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("tercet.service", "tercet.socket"):
        text = (root / "config/systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/tercet/bin/tercet", shutil.which("true") or ""))
    command = [str(tool("systemd-analyze"))]
    verified = subprocess.run(
        [*command, "verify", str(tmp_path / "tercet.service"), str(tmp_path / "tercet.socket")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tercet" not in verified.stderr, verified.stderr
    judged = subprocess.run(
        [*command, "security", "--offline=true", "--threshold=20", str(tmp_path / "tercet.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]


@pytest.mark.parametrize("name", ["proxied", "systemd", "container"])
def test_example_loads(root: Path, name: str) -> None:
    loaded = config.load(root / "config" / f"{name}.toml")
    assert loaded.daemon.listeners


def test_mutual_tls_example_loads_beside_certificates(root: Path, tmp_path: Path) -> None:
    from tercet_broker import certificates  # noqa: PLC0415

    (tmp_path / "config").mkdir()
    shutil.copy(root / "config/mutual-tls.toml", tmp_path / "config")
    certificates.write(certificates.make(certificates.DEFAULT_NAMES), tmp_path / "certificates")
    certificates.write(certificates.make(["sensor-7"]), tmp_path / "sensor-7")
    (listener,) = config.load(tmp_path / "config/mutual-tls.toml").daemon.listeners
    assert listener.tls is not None
    assert listener.tls.client_certificates == "required"
    assert listener.origins == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('origins = "https://x.y"', "must be a list, not"),
        ('origins = ["https://x.y/"]', "did you mean 'https://x.y'"),
        ('trusted_proxies = ["10.0.0.1/8"]', "did you mean '10.0.0.0/8'"),
        ("proxy_protocol = true", "is of no use without trusted_proxies"),
        ('bind = "systemd:"', "is no name of a socket"),
    ],
)
def test_wrong_listener_options_are_explained(text: str, problem: str) -> None:
    bind = "" if text.startswith("bind") else 'bind = "127.0.0.1:1"\n'
    with pytest.raises(config.ConfigError, match=re.escape(problem)):
        config.parse(f"[[listener]]\n{bind}{text}\n", Path())


def test_client_ca_wants_origins(root: Path, tmp_path: Path) -> None:
    text = (root / "config/mutual-tls.toml").read_text()
    with pytest.raises(config.ConfigError, match="a browser shows its user's certificate"):
        config.parse(re.sub("^origins.*$", "", text, flags=re.MULTILINE), tmp_path)

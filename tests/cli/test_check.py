"""`tercet check` in this process; test_serving.py runs it as one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tercet_broker import config
from tercet_broker.cli import tercet

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_check_prints_a_configuration_that_passes_again(tmp_path: Path) -> None:
    first = CliRunner().invoke(tercet, ["check", str(CONFIG / "plain.toml")])
    assert first.exit_code == 0, first.output
    again = tmp_path / "effective.toml"
    again.write_text(first.stdout)
    assert CliRunner().invoke(tercet, ["check", str(again)]).stdout == first.stdout


def test_quiet_check_prints_what_is_wrong_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(tercet, ["check", "--quiet", str(CONFIG / "plain.toml")])
    assert (result.exit_code, result.output) == (0, "")
    (tmp_path / "wrong.toml").write_text("x = 1")
    result = CliRunner().invoke(tercet, ["check", "-q", str(tmp_path / "wrong.toml")])
    assert result.exit_code == 2
    assert "unknown section" in result.stderr


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[limits]\nmax_mesage_size = 1\n")
    result = CliRunner().invoke(tercet, ["check", str(wrong)])
    assert result.exit_code == 2
    assert "max_mesage_size" in result.stderr


def test_check_prints_warnings_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "warnings", lambda _: ["listener[0].insecure: tokens can be read on the way"])
    result = CliRunner().invoke(tercet, ["check", str(CONFIG / "plain.toml")])
    assert result.exit_code == 0
    assert "warning: listener[0].insecure" in result.stderr

"""The `needs` marker, by which absent tools are named and cannot slip through the gate; and the canary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASE = """
import pytest

@pytest.mark.needs("ws")
def test_with_ws(tool):
    assert tool("ws").name == "ws"
"""


def run(folder: Path, conftest: Path, **environment: str) -> str:
    (folder / "conftest.py").write_text(conftest.read_text())
    (folder / "test_case.py").write_text(CASE)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.stdout


@pytest.mark.parametrize(
    ("require", "installed", "expected"),
    [
        ("0", False, "ws is not installed"),
        ("1", False, "TERCET_CI_REQUIRE=1 forbids to skip"),
        ("0", True, "1 passed"),
        ("1", True, "1 passed"),
    ],
)
def test_needs_skips_by_name_or_fails(tmp_path: Path, root: Path, require: str, installed: bool, expected: str) -> None:
    modules = tmp_path / "modules"
    if installed:
        (modules / "ws").mkdir(parents=True)
        (modules / "ws" / "package.json").write_text("{}")
    folder = tmp_path / "case"
    folder.mkdir()
    output = run(
        folder,
        root / "tests" / "conftest.py",
        TERCET_CI_REQUIRE=require,
        TERCET_NODE_MODULES=str(modules),
    )
    assert expected in output
    assert ("1 error" in output) == (require == "1" and not installed)


@pytest.mark.parametrize(
    "writes", ["print(canary)", "logging.getLogger('x').warning(canary)", "os.write(2, canary.encode())"]
)
def test_a_token_in_the_output_fails_the_test_that_wrote_it(tmp_path: Path, root: Path, writes: str) -> None:
    for number, line in enumerate((writes, "pass")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
        (folder / "test_case.py").write_text(f"import logging, os\n\ndef test_it(canary):\n    {line}\n")
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ("a token stands in what the test has written" in result.stdout) == (line == writes)
        assert result.returncode == (line == writes)

"""What every test may rely on: hypothesis profiles, and tools that are not Python packages.

A test that needs such a tool says so:

    @pytest.mark.needs("chromium", "node")
    def test_x(tool):
        subprocess.run([tool("node"), "--version"])

Where the tool is absent the test is skipped by name. With
TERCET_CI_REQUIRE=1 in the environment it fails instead: the gate installs
what is needed, and must not pass by leaving tests out.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import pytest

# What every token of the suite has in it, so that one that leaks is seen.
CANARY = "Canary_0d1e5f7a9b3c"

ROOT = Path(__file__).resolve().parent.parent

# The schedule of a loaded machine is no reason to fail, so no deadlines.
hypothesis.settings.register_profile("default", deadline=None)
# The same examples every time: a red gate can be repeated.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
# For a long evening: HYPOTHESIS_PROFILE=thorough python -m pytest tests/core
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def _find_program(*names: str) -> Callable[[], Path | None]:
    # Daemons live in sbin, which is not on everyone's path.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])

    def find() -> Path | None:
        for name in names:
            found = shutil.which(name, path=path)
            if found:
                return Path(found)
        return None

    return find


def _find_node_module(name: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        configured = os.environ.get("TERCET_NODE_MODULES")
        folder = Path(configured) if configured else ROOT / "node_modules"
        return folder / name if (folder / name / "package.json").is_file() else None

    return find


# {tool: how to find it}
TOOLS: dict[str, Callable[[], Path | None]] = {
    "chromium": _find_program("chromium", "chromium-browser", "google-chrome"),
    "node": _find_program("node", "nodejs"),
    "ws": _find_node_module("ws"),
    "nginx": _find_program("nginx"),
    "haproxy": _find_program("haproxy"),
    "systemd-analyze": _find_program("systemd-analyze"),
    "mosquitto": _find_program("mosquitto"),
}


def _require(name: str) -> Path:
    """Return where a tool is; skip the test, or fail it, where it is not."""
    path = TOOLS[name]()
    if path is None:
        message = f"{name} is not installed"
        if os.environ.get("TERCET_CI_REQUIRE") == "1":
            pytest.fail(f"{message}, and TERCET_CI_REQUIRE=1 forbids to skip", pytrace=False)
        pytest.skip(message)
    return path


def _tell_coverage(path: Path) -> None:
    """Note the test's folder as coverage's context; .ci/coverage_by_module.py asks for it."""
    coverage = sys.modules.get("coverage")  # not among the tests' needs; the gate brings it
    current = coverage.Coverage.current() if coverage else None
    if current is not None and path.is_relative_to(ROOT / "tests"):
        folder = path.relative_to(ROOT / "tests").parts[0]
        current.switch_context(folder)
        os.environ["TERCET_TEST_FOLDER"] = folder  # for the processes that it starts


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*tools): is skipped without these: {', '.join(TOOLS)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose output or logs hold the canary: a token must not be in any."""
    report = yield
    for name, text in report.sections:
        if CANARY in text:
            report.outcome = "failed"
            report.longrepr = f"a token stands in what the test has written: {name}"
    return report


@pytest.fixture
def canary() -> str:
    """A secret for tokens. Whatever writes it anywhere fails the test."""
    return CANARY


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _tell_coverage(item.path)
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            _require(name)


@pytest.fixture
def tool() -> Callable[[str], Path]:
    """Where a tool is that the test `needs`: a program's file, or a node module's folder."""
    return _require


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout: where docs/, config/ and the README are."""
    return ROOT

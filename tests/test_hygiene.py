"""Promises about the code as a whole that no linter has a rule for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "tercet_protocol": ROOT / "broker" / "tercet_protocol",
    "tercet_broker": ROOT / "broker" / "tercet_broker",
    "tercet_testing": ROOT / "broker" / "tercet_testing",
    "tercet": ROOT / "clients" / "python" / "tercet",
}
OWN = frozenset(PACKAGES)

# Libraries into whose private names nobody reaches. One module of
# tercet_testing has to (what Trio leaves open, determinism has to close).
ENGINES = frozenset({"trio", "trio_websocket", "wsproto", "h11", "msgspec"})
MAY_REACH_IN = "tercet_testing"

# {package: the third-party packages it may import}; the design's table.
THIRD_PARTY = {
    "tercet_protocol": {"attrs", "msgspec", "websockets"},
    "tercet_broker/core": {"attrs", "msgspec"},
    "tercet_broker/runtime": {
        "argon2",
        "attrs",
        "cryptography",
        "h11",
        "jwt",
        "msgspec",
        "structlog",
        "trio",
        "trio_websocket",
        "wsproto",
    },
    "tercet": {"attrs", "msgspec", "structlog", "trio", "trio_websocket", "wsproto"},
}


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every absolute dotted name that is imported, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def attributes(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every dotted name that starts at a plain name: `trio.lowlevel.checkpoint`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                parts.append(value.attr)
                value = value.value
            if isinstance(value, ast.Name):
                yield ".".join([value.id, *reversed(parts)]), node.lineno


def is_private(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    return first in ENGINES and any(
        part.startswith("_") and not (part.startswith("__") and part.endswith("__")) for part in rest
    )


def private_uses(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    found = {(line, name) for name, line in [*imports(tree), *attributes(tree)] if is_private(name)}
    return [f"{path.relative_to(ROOT)}:{line}: {name}" for line, name in sorted(found)]


@pytest.mark.parametrize("package", sorted(OWN - {MAY_REACH_IN}))
def test_product_code_uses_public_names_of_its_engines(package: str) -> None:
    assert [use for path in sources(PACKAGES[package]) for use in private_uses(path)] == []


def test_at_most_one_testing_module_reaches_into_trio() -> None:
    reaching = [path for path in sources(PACKAGES[MAY_REACH_IN]) if private_uses(path)]
    assert len(reaching) <= 1, reaching


def test_private_names_are_seen_by_this_test(tmp_path: Path) -> None:
    """The detector itself: imports, from-imports and attributes, dunders excepted."""
    code = "import trio._core\nfrom trio import _x\nimport trio\ntrio._core._run\ntrio.__version__\ntrio.run\n"
    tree = ast.parse(code)
    names = [name for name, _ in [*imports(tree), *attributes(tree)] if is_private(name)]
    assert names == ["trio._core", "trio._x", "trio._core._run", "trio._core"]


@pytest.mark.parametrize("part", sorted(THIRD_PARTY))
def test_third_party_imports_are_those_of_the_design(part: str) -> None:
    first, *rest = part.split("/")
    allowed = THIRD_PARTY[part] | set(sys.stdlib_module_names) | OWN
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(PACKAGES[first].joinpath(*rest))
        for name, line in imports(ast.parse(path.read_text()))
        if name.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_source_folders_are_no_packages() -> None:
    """An __init__.py there would break editable installs and type checkers."""
    for folder in ("broker", "clients", "clients/python"):
        assert not (ROOT / folder / "__init__.py").exists()


def tracked() -> list[Path]:
    """Every text file that belongs to the project, tracked by git or not."""
    names: list[Path] = []
    skipped = {"node_modules", "__pycache__", "dist", "_build", "htmlcov", "certificates"}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if any(part in skipped or (part.startswith(".") and part != ".ci") for part in parts):
            continue
        if path.is_file() and path.suffix not in {".png", ".pyc", ".ico"} and "egg-info" not in str(path):
            names.append(path)
    return names


MIRRORS = re.compile(r"registry[.]npmjs|files[.]pythonhosted|pypi[.]org/simple|proxy[.]golang|index[-]url")
LOCKS = {"package-lock.json", "yarn.lock", "pnpm-lock.yaml", "poetry.lock", "uv.lock", "Pipfile.lock"}


def test_no_registry_host_and_no_lock_file() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        for match in [MIRRORS.search(path.read_text(errors="replace"))]
        if match
    ]
    assert found == []
    assert [path for path in tracked() if path.name in LOCKS] == []


def test_tests_and_code_do_not_sleep_for_real() -> None:
    """Waiting for real time makes slow tests and flaky ones."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in [*PACKAGES.values(), ROOT / "tests"]
        for path in sources(folder)
        for name, line in attributes(ast.parse(path.read_text()))
        if name == "time.sleep"
    ]
    assert found == []


def test_readme_names_the_two_commands() -> None:
    """What the gate runs is what a reader is told."""
    readme = (ROOT / "README.md").read_text()
    assert ".venv/bin/tercet serve" in readme
    assert ".venv/bin/pip install -q '.[test]' && .venv/bin/python -m pytest" in readme
    gate = (ROOT / ".ci" / "run").read_text()
    assert "-m pytest" in gate


def test_installed_packages_are_those_under_test() -> None:
    """Tests import what is installed, wherever that is; not a folder beside them by accident."""
    code = "import tercet, tercet_broker, tercet_protocol, tercet_testing; print(tercet_protocol.SUBPROTOCOL)"
    output = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout == "tercet.v1.json\n"

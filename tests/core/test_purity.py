"""The core has no clock, no randomness and no I/O, and neither reaches for them by another way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tercet_broker.core

MODULES = sorted(Path(tercet_broker.core.__file__).parent.glob("*.py"))

# Of the standard library, all that is left for it to use.
ALLOWED = frozenset(
    "__future__ attrs bisect collections collections.abc enum hashlib functools heapq itertools math msgspec operator "
    "typing tercet_protocol tercet_protocol.topics".split()
)


def absolute_imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "the core imports nothing of the packages above it"
            if not node.level and node.module:
                found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_core_imports_only_what_is_pure(path: Path) -> None:
    assert absolute_imports(ast.parse(path.read_text())) <= ALLOWED


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_core_is_synchronous_and_calls_nothing_impure(path: Path) -> None:
    """No coroutine, and none of the builtins that reach the world or depend on addresses."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "id", "hash", "__import__", "exec", "eval"}

"""What the names of a failed assertion stood for, where pytest has not rewritten it."""

from __future__ import annotations

import ast
import reprlib
from collections.abc import Iterator
from types import FrameType


def values_in(line: str, frame: FrameType) -> list[tuple[str, str]]:
    """Return (name, value) of the variables and attributes that an `assert` looks at; calls are not repeated."""
    try:
        statement = ast.parse(line).body[0]
    except (SyntaxError, IndexError):  # a part of a longer one
        return []
    if not isinstance(statement, ast.Assert):
        return []
    scope = {**frame.f_builtins, **frame.f_globals, **frame.f_locals}
    found = {}
    for node in _chains(statement.test):
        try:
            value = _look_up(node, scope)
        except Exception:  # noqa: BLE001, S112 - a property may raise what it likes
            continue
        if not callable(value):
            found[ast.unparse(node)] = reprlib.repr(value)
    return list(found.items())


def _chains(node: ast.AST) -> Iterator[ast.Name | ast.Attribute]:
    """Yield the longest `a.b.c` of an expression."""
    if isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_chain(node)):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _is_chain(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and _is_chain(node.value))


def _look_up(node: ast.expr, scope: dict[str, object]) -> object:
    if isinstance(node, ast.Attribute):
        return getattr(_look_up(node.value, scope), node.attr)
    if isinstance(node, ast.Name):
        return scope[node.id]
    raise TypeError(node)

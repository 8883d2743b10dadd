"""Which connections get a topic's messages: a trie of the filters of live subscriptions.

Levels lead from node to node; `+` is a level like any other, and `#` is a set
of its own at the node of its parent. So a topic is matched in a walk over at
most 2^wildcards nodes, however many filters there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from attrs import define, field

from tercet_protocol import Filter, is_reserved

Owner = TypeVar("Owner")
"""What the filters lead to: an outbox, or a subscription. Hashed by identity."""

_ONE = "+"
_REST = "#"


@define(eq=False)
class _Node(Generic[Owner]):
    children: dict[str, _Node[Owner]] = field(factory=dict)  # {level: node}
    here: dict[Owner, int] = field(factory=dict)  # {owner: how many subscriptions end here}
    rest: dict[Owner, int] = field(factory=dict)  # {owner: how many end here with "#"}

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.here or self.rest)


@define(eq=False)
class FilterIndex(Generic[Owner]):
    """The filters of many subscriptions, each with what it leads to.

    Attributes:
        version: grows with every change, so that what was matched can be cached.
    """

    version: int = 0
    _root: _Node[Owner] = field(factory=_Node, repr=False)

    def add(self, filter_: Filter, owner: Owner) -> None:
        """Let what matches `filter_` go to `owner`; the same pair may be added repeatedly."""
        self.version += 1
        node = self._root
        levels, ends = _path(filter_)
        for level in levels:
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        owners = node.rest if ends == _REST else node.here
        owners[owner] = owners.get(owner, 0) + 1

    def invalidate(self) -> None:
        """Void what was matched, though no filter changes: something else that it depends on does."""
        self.version += 1

    def remove(self, filter_: Filter, owner: Owner) -> None:
        """Undo one `add` of the same pair; KeyError if there was none."""
        self.version += 1
        levels, ends = _path(filter_)
        trail = [self._root]
        for level in levels:
            trail.append(trail[-1].children[level])
        owners = trail[-1].rest if ends == _REST else trail[-1].here
        owners[owner] -= 1
        if not owners[owner]:
            del owners[owner]
        for depth in range(len(levels), 0, -1):
            if not trail[depth].is_empty:
                break
            del trail[depth - 1].children[levels[depth - 1]]

    def match(self, levels: tuple[str, ...]) -> dict[Owner, None]:
        """Return the owners of all filters that match a topic, each once, in a settled order."""
        found: dict[Owner, None] = {}
        for _, owners in self.hits(levels):
            found.update(dict.fromkeys(owners))
        return found

    def hits(self, levels: tuple[str, ...]) -> list[tuple[tuple[str, ...], Mapping[Owner, int]]]:
        """Return the filters that match a topic, as levels, each with its owners, in the same order."""
        found: list[tuple[tuple[str, ...], Mapping[Owner, int]]] = []
        nodes = [((), self._root)] if not is_reserved(levels[0]) else self._own(levels[0])
        for level in levels[len(nodes[0][0]) if nodes else 0 :]:
            following: list[tuple[tuple[str, ...], _Node[Owner]]] = []
            for path, node in nodes:
                if node.rest:
                    found.append(((*path, _REST), node.rest))
                if level in node.children:
                    following.append(((*path, level), node.children[level]))
                if _ONE in node.children:
                    following.append(((*path, _ONE), node.children[_ONE]))
            if not following:
                return found
            nodes = following
        for path, node in nodes:
            if node.here:
                found.append((path, node.here))
            if node.rest:
                found.append(((*path, _REST), node.rest))
        return found

    def _own(self, level: str) -> list[tuple[tuple[str, ...], _Node[Owner]]]:
        """Return where one of the broker's own first levels leads: no wildcard matches these (protocol.md, N-013)."""
        node = self._root.children.get(level)
        return [] if node is None else [((level,), node)]

    @property
    def is_empty(self) -> bool:
        """Whether no filter is left."""
        return self._root.is_empty


def _path(filter_: Filter) -> tuple[tuple[str, ...], str | None]:
    """Return the levels that lead to a filter's node, and `#` if it ends with that."""
    if filter_.levels[-1] == _REST:
        return filter_.levels[:-1], _REST
    return filter_.levels, None

"""What is fuzzed. A target is a module with `run(data)`, which fails where something is wrong, and `SEEDS`.

protocol        requests to sessions of a real core, whose books have to add up after each
filters         the grammar, containment and the index, against brute force
configuration   TOML in any form, and there and back again
frames          the frame reader with its fast path, against a naive one
lane            a connection with the lane and without
upgrade         the request head, whole and in pieces
proxy           both PROXY protocols, whole and in pieces
tokens          JSON Web Tokens and static ones
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from attrs import frozen

NAMES = ("protocol", "filters", "configuration", "frames", "lane", "upgrade", "proxy", "tokens")


@frozen
class Target:
    """One thing that is fuzzed.

    Attributes:
        run: is given bytes, any at all; what it raises is a finding.
        seeds: bytes that lead somewhere.
        words: what such bytes are made of.
    """

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    words: Sequence[bytes]


def load(name: str) -> Target:
    """Return a target; its module, and what that imports, is imported here and not before."""
    module = importlib.import_module(f"{__name__}.{name}")
    return Target(module.run, module.SEEDS, module.WORDS)

"""All attacks, level by level, and what each of them gets.

`python -m tests.integration.hostile` prints the table that docs/design/threats.md shows.
"""

from __future__ import annotations

from tests.integration.hostile.attacking import ATTACKS
from tests.integration.hostile.levels import frames, http, json_texts, raw_socket, semantics, tls, tokens

LEVELS = {
    "raw socket": raw_socket,
    "HTTP": http,
    "frame": frames,
    "JSON": json_texts,
    "semantics": semantics,
    "tokens": tokens,
    "TLS": tls,
}


def table() -> str:
    """Return the table for the docs."""
    lines = ["| level | the client | gets |", "|---|---|---|"]
    ordered = (one for level in LEVELS for one in ATTACKS if one.level == level)
    return "\n".join([*lines, *(f"| {one.level} | {one.name} | {one.gets} |" for one in ordered)])

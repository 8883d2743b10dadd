"""The command `tercet`. One command a file; what each does is in docs/reference/command-line.md.

What a command needs is imported when it runs: `tercet --help` and completion
answer at once, and `serve` loads neither rich nor the client.
"""

from __future__ import annotations

from .commands import main, tercet

__all__ = ["main", "tercet"]

"""Text of others, made fit for a terminal and a log: what could move the cursor is spelled out."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with every character that is not printable escaped, as in `\x1b` or `\u202e`.

    Escape sequences, newlines that fake a log line and marks that reorder the
    text on the screen all come from peers. The characters of `keep` stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escape(character) for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

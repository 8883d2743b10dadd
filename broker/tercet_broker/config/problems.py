"""What is wrong with a configuration file, for a person."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

from attrs import frozen

from ..printable import printable

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_LIKENESS = 0.5  # of 1: finds "warning" in "wran"


@frozen
class Problem:
    """One mistake.

    Attributes:
        path: where it is, as in `listener[1].tls.key` (counted from 0); empty for the file as a whole.
        message: what is wrong, and what would be right.
        suggestion: what was probably meant, a sentence or None.
    """

    path: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return printable(f"{text} ({self.suggestion})" if self.suggestion else text)


class ConfigError(ValueError):
    """The configuration cannot be used.

    Attributes:
        file: its name.
        problems: everything that is wrong, in the order of the file's sections; never empty.
    """

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__(file, self.problems)

    def __str__(self) -> str:
        name = printable(self.file)
        return "\n".join(f"{name}: {problem}" for problem in self.problems)


def quote_key(key: str) -> str:
    """Return a key as TOML writes it: bare where that is possible."""
    return key if _BARE_KEY.fullmatch(key) else quote(key)


def quote(text: str) -> str:
    """Return a TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a suggestion if `word` looks like a typo of one of `known`."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=_LIKENESS)
    return f"did you mean '{close[0]}'?" if close else None

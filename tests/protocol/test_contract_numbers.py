"""The numbers of the wire contract: unique, real where a test cites one, and which of them nobody proves."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ROOT / "docs" / "reference" / "protocol.md"
DEFINED = re.compile(r"\*\*\[([A-Z]-\d{3})\]\*\*")
CITED = re.compile(r"(?<![A-Z0-9-])([A-Z]-\d{3})(?!\d)")
KEYWORD = re.compile(r"\bMUST\b")

# What no test proves yet. It only shrinks: a number that a test cites has to
# go from here, and a new rule comes with its test.
UNPROVEN = frozenset[str]()


def defined() -> list[str]:
    return DEFINED.findall(CONTRACT.read_text())


def cited() -> dict[str, set[str]]:
    """Return {number: the test files that name it}."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__).resolve():
            for number in CITED.findall(path.read_text()):
                found.setdefault(number, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_numbers_are_unique() -> None:
    assert [number for number, count in Counter(defined()).items() if count > 1] == []


def test_every_must_has_a_number() -> None:
    """Each paragraph or list item that says MUST has a number in it; the one that defines the word is exempt."""
    text = CONTRACT.read_text()
    items = re.split(r"\n(?=- |\n)", text)
    without = [
        item.strip() for item in items if KEYWORD.search(item) and not DEFINED.search(item) and "RFC 2119" not in item
    ]
    assert without == []


def test_references_inside_the_contract_exist() -> None:
    numbers = set(defined())
    assert set(re.findall(r"\[([A-Z]-\d{3})\]", CONTRACT.read_text())) <= numbers


def test_cited_numbers_exist() -> None:
    numbers = set(defined())
    assert {number: files for number, files in cited().items() if number not in numbers} == {}


def test_unproven_numbers_are_exactly_those_listed() -> None:
    unproven = {number for number in defined() if number not in cited()}
    assert sorted(unproven - UNPROVEN) == [], "no test cites these rules: prove them"
    assert sorted(UNPROVEN - unproven) == [], "these are cited now (or gone): take them off UNPROVEN"

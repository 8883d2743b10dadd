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
UNPROVEN = frozenset(
    """
    C-010 C-015 C-022
    N-004 N-006 N-020 N-021 N-022 N-023 N-024 N-025 N-030 N-031
    R-001 R-003 R-004 R-005 R-006 R-010 R-011 R-012 R-013 R-014 R-015 R-016 R-017
    R-018
    P-001 P-002 P-003 P-004 P-005 P-010 P-011 P-012 P-013
    H-001 H-002 H-003 H-004 H-005
    R-020 R-021 R-022 R-023
    M-002 M-003 M-004 M-005 M-006 M-007 M-010 M-011
    S-001 S-002 S-003 S-004 S-005 S-006 S-007 S-008 S-020 S-021 S-022 S-024 S-030
    G-001 G-002 G-003 G-004 G-005 G-006 G-007 G-008 G-009
    E-002 E-003 E-004 E-023
    """.split()
)


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

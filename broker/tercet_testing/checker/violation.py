"""What the checker finds."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import frozen

from ..events import Event

_SHOWN = 10  # violations that an error's text spells out


class Rule(enum.StrEnum):
    """The rules, by their ids. docs/reference/checker.md explains each."""

    ONE_POSITION = "one-position"
    PUBLISH_ORDER = "publish-order"
    ONCE = "once"
    EPOCH = "epoch"
    CONTENT = "content"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    FILTER = "filter"
    SEQ_RISES = "seq-rises"
    SKIP = "skip"
    EPOCH_GAP = "epoch-gap"
    UNSUBSCRIBED = "unsubscribed"
    RETAINED = "retained"
    QUIET = "quiet"


@frozen
class Violation:
    """One thing that must not be.

    Attributes:
        rule: which rule it breaks.
        text: what happened, in one sentence.
        events: those concerned, in the order in which they happened.
    """

    rule: Rule
    text: str
    events: tuple[Event, ...]

    def __str__(self) -> str:
        return f"[{self.rule}] {self.text}"


class IncorrectHistoryError(AssertionError):
    """A history is not correct.

    Attributes:
        violations: what the checker found.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        count = len(self.violations)
        lines = ["the history is not correct:"]
        for violation in self.violations[:_SHOWN]:
            lines.append(str(violation))
            lines += [f"    {event}" for event in violation.events]
        if count > _SHOWN:
            lines.append(f"… and {count - _SHOWN} more")
        super().__init__("\n".join(lines))

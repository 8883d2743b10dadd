"""Judges what the clients of a pub/sub broker did and were told.

Pure functions over events (`tercet_testing.events`), wherever those come from.
docs/reference/checker.md lists the rules, and what is deliberately not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import evolve

from ..events import Event
from .contents import judge_contents
from .forbidden import judge_forbidden
from .ledger import Ledger
from .positions import judge_positions
from .retained import judge_retained
from .streams import judge_stream
from .violation import IncorrectHistoryError, Rule, Violation

__all__ = ["IncorrectHistoryError", "Rule", "Violation", "assert_correct", "check"]


def check(
    history: Iterable[Event],
    *,
    key_seconds: float = 300.0,
    quiet: bool = False,
    conflating: Collection[str] = (),
) -> list[Violation]:
    """Return what is wrong with a history, in the order in which it shows; nothing if it is correct.

    Args:
        history: all events, in the order in which they happened. It holds every
            publish that was made in the namespaces it is about.
        key_seconds: how long the broker remembers a key.
        quiet: whether, at the end of the history, nothing is on the way any
            more and everybody has read what there was. Then what was published
            must have come, too, where nothing after it came.
        conflating: the namespaces in which a newer value may replace a queued one.

    Raises:
        ValueError: an event speaks of a publish or a subscription that never
            began, or `key_seconds` is not above 0.
    """
    if key_seconds <= 0:
        raise ValueError(f"key_seconds is above 0, not {key_seconds:g}")
    ledger = Ledger.read(history)
    found = [*judge_positions(ledger, key_seconds), *judge_contents(ledger, key_seconds), *judge_forbidden(ledger)]
    for subscription in ledger.subscriptions.values():
        found += judge_stream(ledger, subscription, quiet=quiet, conflating=conflating)
        found += judge_retained(ledger, subscription)
    place = {id(event): number for number, event in enumerate(ledger.events)}
    found = [_in_order(violation, place) for violation in found]
    found.sort(key=lambda violation: place[id(violation.events[-1])])
    return found


def assert_correct(
    history: Iterable[Event],
    *,
    key_seconds: float = 300.0,
    quiet: bool = False,
    conflating: Collection[str] = (),
) -> None:
    """Demand that `check` finds nothing.

    Raises:
        IncorrectHistoryError: says what it found.
    """
    violations = check(history, key_seconds=key_seconds, quiet=quiet, conflating=conflating)
    if violations:
        raise IncorrectHistoryError(violations)


def _in_order(violation: Violation, place: dict[int, int]) -> Violation:
    events = {id(event): event for event in violation.events}  # each once
    return evolve(violation, events=tuple(sorted(events.values(), key=lambda event: place[id(event)])))

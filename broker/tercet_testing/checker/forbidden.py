"""The rule on what a client may be handed: nothing that was published after its right to it was taken back."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from tercet_protocol import Filter, parse_filter

from ..events import Delivered, Granted, Revoked
from .ledger import Ledger
from .violation import Rule, Violation


@frozen
class _Revocation:
    """A right that was taken back at a place in the history."""

    now: int
    filter: Filter
    event: Revoked


def judge_forbidden(ledger: Ledger) -> Iterator[Violation]:
    """Judge all deliveries of a history.

    What was published before, or may have been, can have been on the way.
    """
    revoked: dict[str, dict[str, _Revocation]] = {}  # {client: {filter: its revocation}}
    for now, event in enumerate(ledger.events):
        match event:
            case Revoked():
                mine = revoked.setdefault(event.client, {})
                mine.setdefault(event.filter, _Revocation(now, parse_filter(event.filter), event))
            case Granted():
                revoked.get(event.client, {}).pop(event.filter, None)
            case Delivered():
                known = ledger.by_content.get((event.topic, event.data), [])
                for one in revoked.get(event.client, {}).values():
                    if known and one.filter.matches(event.topic) and all(publish.begun > one.now for publish in known):
                        text = (
                            f"{event.client} was handed {event.topic!r} at {event.seq}, which was published after "
                            f"{one.filter.text!r} had been forbidden to it."
                        )
                        yield Violation(Rule.FORBIDDEN, text, (one.event, event))
            case _:
                pass

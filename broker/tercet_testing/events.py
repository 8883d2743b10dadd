"""The events of a history: what clients did, and what they were told.

They may come from anywhere: `dump` and `load` keep them as JSON Lines, which a
client in any language can write (docs/reference/checker.md has the fields).
`number` tells a client's publishes apart, and its subscriptions. The order of
the events is the order in which things happened.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from attrs import fields, frozen

from tercet_protocol import Position


@frozen
class Publishing:
    """A publish began. `data` is JSON in UTF-8; `key` is None where the application gave none."""

    at: float
    client: str
    number: int
    topic: str
    data: bytes
    retain: bool = False
    key: str | None = None
    echo: bool = True


@frozen
class Acked:
    """A publish was acknowledged."""

    at: float
    client: str
    number: int
    position: Position
    duplicate: bool = False


@frozen
class Failed:
    """A publish failed: the broker `refused` it, or else its outcome is unknown."""

    at: float
    client: str
    number: int
    error: str
    refused: bool = False


@frozen
class Subscribing:
    """A subscription was asked for."""

    at: float
    client: str
    number: int
    filter: str
    since: Position | None = None
    last: int | None = None
    retained: bool | None = None


@frozen
class Subscribed:
    """The broker has accepted the subscription: what is published from now on lies after its start."""

    at: float
    client: str
    number: int


@frozen
class Delivered:
    """The application was handed a message. `epoch` is None where the client cannot know it: over namespaces."""

    at: float
    client: str
    number: int
    topic: str
    seq: int
    epoch: str | None
    data: bytes
    retained: bool = False


@frozen
class GapTold:
    """The application was told that messages may be missing here.

    Without numbers it covers whatever there was up to the next message;
    without a namespace, in all of those that the filter spans.
    """

    at: float
    client: str
    number: int
    namespace: str | None
    epoch: str | None
    after: int | None
    through: int | None
    reason: str


@frozen
class LiveTold:
    """The application was told that live begins; up to `position` it was handed everything. None over namespaces."""

    at: float
    client: str
    number: int
    position: Position | None


@frozen
class Unsubscribed:
    """A subscription ended: the application has left it."""

    at: float
    client: str
    number: int


@frozen
class Left:
    """A client has ended, and with it its subscriptions: nothing more is owed to them."""

    at: float
    client: str


@frozen
class Revoked:
    """From now on the client may not be handed what is published where `filter` matches."""

    at: float
    client: str
    filter: str


@frozen
class Granted:
    """A `Revoked` of the same client and filter is over."""

    at: float
    client: str
    filter: str


Told = Delivered | GapTold | LiveTold
Event = Publishing | Acked | Failed | Subscribing | Subscribed | Told | Unsubscribed | Left | Revoked | Granted

_KINDS: dict[str, type[Event]] = {
    "publishing": Publishing,
    "acked": Acked,
    "failed": Failed,
    "subscribing": Subscribing,
    "subscribed": Subscribed,
    "delivered": Delivered,
    "gap": GapTold,
    "live": LiveTold,
    "unsubscribed": Unsubscribed,
    "left": Left,
    "revoked": Revoked,
    "granted": Granted,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def dump(events: Iterable[Event]) -> bytes:
    """Return the events as JSON Lines: one object a line, its kind in `event`, `data` as JSON text in a string."""
    lines = []
    for event in events:
        values = msgspec.to_builtins(event, builtin_types=(bytes,))
        if "data" in values:
            values["data"] = values["data"].decode()
        ordered = {field.name: values[field.name] for field in fields(type(event))}
        lines.append(msgspec.json.encode({"event": _NAMES[type(event)], **ordered}))
    return b"\n".join([*lines, b""])


def load(lines: bytes) -> list[Event]:
    """Return the events that `dump`, or another program, wrote.

    Raises:
        ValueError: a line is no event; says which line and why.
    """
    events: list[Event] = []
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.strip():
            continue
        try:
            events.append(_read(line))
        except ValueError as error:  # msgspec's errors are such too
            raise ValueError(f"line {number}: {error}") from error
    return events


def _read(line: bytes) -> Event:
    values = msgspec.json.decode(line, type=dict[str, object])
    name = values.pop("event", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"'event' is one of {', '.join(_KINDS)}, not {name!r}")
    data = values.get("data")
    if isinstance(data, str):
        values["data"] = data.encode()
    return msgspec.convert(values, kind, builtin_types=(bytes,))

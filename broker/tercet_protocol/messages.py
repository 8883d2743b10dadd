"""Everything that travels, one struct for each kind of message (protocol.md, sections 3 to 6).

Requests go from a client to the broker, events from the broker to a client;
`ping` and `pong` go both ways. The broker's decoder refuses fields it does
not know; the client's ignores them, so that version 1 can grow.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

MAX_ID = 2**53 - 1  # the largest integer that every JSON implementation keeps exact
MIN_KEY_LENGTH = 16
MAX_KEY_LENGTH = 64

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Seq = Annotated[int, Meta(ge=0, le=MAX_ID)]
Count = Annotated[int, Meta(ge=0)]
Key = Annotated[str, Meta(min_length=MIN_KEY_LENGTH, max_length=MAX_KEY_LENGTH)]
Epoch = Annotated[str, Meta(min_length=1, max_length=64)]


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """A place in a namespace's sequence: everything up to `seq` of `epoch`.

    It is written `EPOCH:SEQ` where a person or a file keeps it.
    """

    epoch: Epoch
    seq: Seq

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position that `str()` wrote.

        Raises:
            ValueError: the text is not `EPOCH:SEQ`.
        """
        epoch, colon, seq = text.rpartition(":")
        if not (colon and epoch and seq.isascii() and seq.isdigit() and int(seq) <= MAX_ID):
            raise ValueError(f"a position is written EPOCH:SEQ, as in 9f1c:57, not {text!r}")
        return cls(epoch, int(seq))

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


# Requests


class Request(Struct, tag_field="op", forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What a client asks of the broker. The reply to one with an `id` repeats it."""

    id: Id | None = None


class Connect(Request, tag="connect", kw_only=True):
    """Open the session. It comes first."""

    token: str | None = None
    client: Annotated[str, Meta(max_length=128)] | None = None
    heartbeat: bool = False


class Subscribe(Request, tag="subscribe", kw_only=True):
    """Receive what matches `filter`; the `id`, here required, names the subscription."""

    filter: str
    since: Position | None = None
    last: Count | None = None
    retained: bool | None = None


class Unsubscribe(Request, tag="unsubscribe", kw_only=True):
    """End the subscription `sub`."""

    sub: Id


class Publish(Request, tag="publish", kw_only=True):
    """Give `data`, any JSON value, to everyone who subscribed to `topic`."""

    topic: str
    data: Raw
    retain: bool = False
    key: Key | None = None
    echo: bool = True


class History(Request, tag="history", kw_only=True):
    """Read from the log."""

    filter: str
    since: Position | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class Presence(Request, tag="presence", kw_only=True):
    """Ask who is subscribed to `topic`."""

    topic: str


class Authenticate(Request, tag="authenticate", kw_only=True):
    """Renew the token of a live connection."""

    token: str


class Ping(Request, tag="ping", kw_only=True):
    """Ask for a `pong`; goes both ways."""


class Pong(Request, tag="pong", kw_only=True):
    """Answer a `ping`; goes both ways."""


AnyRequest = Connect | Subscribe | Unsubscribe | Publish | History | Presence | Authenticate | Ping | Pong


# Events: replies and what comes unasked


class Event(Struct, tag_field="op", omit_defaults=True, kw_only=True):
    """What the broker sends."""


class Reply(Event):
    """An event that answers the request of the same `id`."""

    id: int | None = None


class Limits(Struct):
    """What the broker bounds: bytes, counts, and for keys seconds."""

    message_bytes: int
    subscriptions: int
    topic_bytes: int
    topic_levels: int
    last: int
    key_seconds: float


class Connected(Reply, tag="connected", kw_only=True):
    """The session is open. `heartbeat` and `expires_in` are in seconds."""

    connection: str
    server: str
    heartbeat: float
    limits: Limits
    user: str | None = None
    expires_in: float | None = None


class Subscribed(Reply, tag="subscribed", kw_only=True):
    """The subscription took effect at `seq`; unless `live`, its replay follows."""

    live: bool
    epoch: str | None = None
    seq: int | None = None
    recovered: bool | None = None
    conflated: bool | None = None


class Unsubscribed(Reply, tag="unsubscribed", kw_only=True):
    """The subscription ended. With `sub`, `code` and `message` the broker ended it unasked."""

    sub: int | None = None
    code: str | None = None
    message: str | None = None


class Published(Reply, tag="published", kw_only=True):
    """The message has its `seq`, is in the log and was offered to every live subscriber."""

    epoch: str
    seq: int
    duplicate: bool = False


class Message(Event, tag="message", kw_only=True):
    """A delivery. With `sub` it belongs to that subscription's replay, else it is live.

    `time` is the broker's clock when it was published, in milliseconds since
    1970; `data` is passed through byte for byte.
    """

    topic: str
    seq: int
    time: int
    data: Raw
    sub: int | None = None
    retained: bool = False


class Gap(Event, tag="gap", kw_only=True):
    """Messages of (`after`, `through`] that matched may be missing.

    It concerns the subscription `sub` or, without one, everything the
    connection is subscribed to in `namespace`.
    """

    epoch: str
    after: int
    through: int
    reason: str
    namespace: str | None = None
    sub: int | None = None
    dropped: int | None = None


class HistoryReply(Reply, tag="history", kw_only=True):
    """A page of the log, oldest first.

    `next` is the position that it was read through. `since` says after which
    position these are all messages that match, where one of the broker's
    bounds was met before as many were found as were asked for.
    """

    messages: list[Message]
    next: Position
    head: Position
    more: bool
    gap: Gap | None = None
    since: Position | None = None


class Member(Struct):
    """One user who is present, with how many connections."""

    user: str
    connections: int


class PresenceReply(Reply, tag="presence", kw_only=True):
    """Who is subscribed."""

    members: list[Member]
    count: int


class Authenticated(Reply, tag="authenticated", kw_only=True):
    """The token was renewed; it lasts `expires_in` seconds."""

    user: str
    expires_in: float | None = None


class PingEvent(Reply, tag="ping", kw_only=True):
    """Asks for a `pong`."""


class PongEvent(Reply, tag="pong", kw_only=True):
    """Answers a `ping`."""


class Live(Event, tag="live", kw_only=True):
    """The replay of `sub` ended at `seq`; what comes after it is live."""

    sub: int
    seq: int


class PositionEvent(Event, tag="position", kw_only=True):
    """Everything that matched, up to `seq` in `namespace`, was sent before this."""

    namespace: str
    epoch: str
    seq: int


class Drain(Event, tag="drain", kw_only=True):
    """The broker will close this connection soon; come back `retry_after` seconds after that."""

    retry_after: float


class Error(Reply, tag="error", kw_only=True):
    """A request was refused. Waiting `retry_after` seconds helps where it is given."""

    code: str
    message: str
    retry_after: float | None


AnyEvent = (
    Connected
    | Subscribed
    | Unsubscribed
    | Published
    | Message
    | Gap
    | HistoryReply
    | PresenceReply
    | Authenticated
    | PingEvent
    | PongEvent
    | Live
    | PositionEvent
    | Drain
    | Error
)

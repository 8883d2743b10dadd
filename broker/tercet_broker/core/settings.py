"""What the core can be told: attrs classes that check themselves. All sizes are bytes, all times seconds.

Every default has its reason in docs/reference/configuration.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from attrs import Attribute, Factory, field, frozen, validators

from tercet_protocol import is_reserved, parse_filter, split_topic

KIB = 1024
MIB = 1024 * KIB

# What a namespace without configured history keeps so that retained snapshots
# and resumes bridge to live (protocol.md, section 2).
HANDOVER_MESSAGES = 256
HANDOVER_BYTES = 1 * MIB

# attrs' classes are generic for type checkers only, hence the quotes.
Validator = Callable[[object, "Attribute[Any]", Any], None]

positive: Validator = validators.gt(0)
_positive_or_none: Validator = validators.optional(positive)


@frozen
class HistorySettings:
    """How much of a namespace's messages is kept.

    Attributes:
        messages: length of the unbroken run.
        bytes: its size (the sum of its frames).
        seconds: how old its messages may get; None for no limit.
        per_topic: how many of each topic's newest are kept beyond the run, whatever their age.
    """

    messages: int = field(default=10_000, validator=positive)
    bytes: int = field(default=64 * MIB, validator=positive)
    seconds: float | None = field(default=None, validator=_positive_or_none)
    per_topic: int = field(default=0, validator=validators.ge(0))


class Overflow(enum.StrEnum):
    """What becomes of a connection for whose next delivery there is no room."""

    DISCONNECT = "disconnect"  # it is closed with 4000, and may resume
    DROP_OLDEST = "drop_oldest"  # the oldest deliveries of the namespace go, and a gap stands in their place
    CONFLATE = "conflate"  # only the newest of each topic is queued at all; beyond that as `drop_oldest`
    CATCH_UP = "catch_up"  # it is served from the log until it has caught up


@frozen
class NamespaceSettings:
    """How one namespace behaves.

    Attributes:
        history: what is kept for `since`, `last` and `history`; None keeps only the handover run.
        overflow: what becomes of slow connections; None is `catch_up` with history and `disconnect` without.
        retained: whether `retain` is allowed here.
        topics: how many topics may hold kept messages beyond the run, or a retained value.
        retained_bytes: the size of all retained values (the sum of their frames).
        keys: how many idempotency keys are remembered at once.
    """

    history: HistorySettings | None = None
    overflow: Overflow | None = None
    retained: bool = True
    topics: int = field(default=100_000, validator=positive)
    retained_bytes: int = field(default=64 * MIB, validator=positive)
    keys: int = field(default=100_000, validator=positive)

    @property
    def policy(self) -> Overflow:
        """What becomes of slow connections."""
        if self.overflow is not None:
            return self.overflow
        return Overflow.DISCONNECT if self.history is None else Overflow.CATCH_UP


@frozen
class LimitSettings:
    """What one connection may ask for.

    Attributes:
        message_bytes: size of one request, the JSON around `data` included.
        subscriptions: how many a connection may have at once.
        last: the most that `last` may ask for.
        key_seconds: how long an idempotency key is remembered.
        outbox_messages: deliveries a connection may have queued before it counts as too slow.
        outbox_bytes: the same in bytes; at least twice `message_bytes`.
        slow_seconds: for how long its queue may be more than half full before that is an overflow as well.
        replies: unsent replies beyond which a connection is not read from.
        retained_bytes: the size of the retained values of all namespaces together.
        history_messages: the most that one `history` reply holds.
        history_bytes: the size of one `history` reply, unless its first message alone is larger.
        history_scanned: how many messages of the log one `history` request looks at.
        bad_requests: how many of them within `bad_seconds` close the connection with 1008.
        bad_seconds: see `bad_requests`.
    """

    message_bytes: int = field(default=256 * KIB, validator=positive)
    subscriptions: int = field(default=1000, validator=positive)
    last: int = field(default=10_000, validator=positive)
    key_seconds: float = field(default=300.0, validator=positive)
    outbox_messages: int = field(default=16_384, validator=positive)
    outbox_bytes: int = field(default=4 * MIB, validator=positive)
    slow_seconds: float = field(default=10.0, validator=positive)
    replies: int = field(default=64, validator=positive)
    retained_bytes: int = field(default=256 * MIB, validator=positive)
    history_messages: int = field(default=1000, validator=positive)
    history_bytes: int = field(default=1 * MIB, validator=positive)
    history_scanned: int = field(default=10_000, validator=positive)
    bad_requests: int = field(default=10, validator=positive)
    bad_seconds: float = field(default=60.0, validator=positive)

    def __attrs_post_init__(self) -> None:
        """Check what concerns two settings at once."""
        if self.outbox_bytes < 2 * self.message_bytes:
            raise ValueError(
                f"outbox_bytes ({self.outbox_bytes}) must be at least twice message_bytes ({self.message_bytes})"
            )


def _check_names(_: object, __: object, names: Mapping[str, NamespaceSettings]) -> None:
    for name in names:
        if len(split_topic(name)) != 1 or is_reserved(name):
            raise ValueError(f"a namespace is named by one level that does not begin with '$', not {name!r}")
        parse_filter(name)


@frozen
class BrokerSettings:
    """Everything the core can be told.

    Attributes:
        namespaces: {name: its settings}.
        unnamed: settings of the namespaces that are not named above; None refuses them.
        unnamed_limit: how many of those there may be at once.
        limits: what one connection may ask for.
    """

    namespaces: Mapping[str, NamespaceSettings] = field(factory=dict, validator=_check_names)
    unnamed: NamespaceSettings | None = Factory(NamespaceSettings)
    unnamed_limit: int = field(default=1000, validator=positive)
    limits: LimitSettings = Factory(LimitSettings)

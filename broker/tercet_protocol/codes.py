"""Error codes, close codes, and what a client does after each (protocol.md, section 6)."""

from __future__ import annotations

import enum


class ErrorCode(enum.StrEnum):
    """The `code` of an `error`: why one request was refused."""

    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    INVALID_TOPIC = "invalid_topic"
    INVALID_FILTER = "invalid_filter"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    DUPLICATE_ID = "duplicate_id"
    KEY_REUSED = "key_reused"
    UNKNOWN_SUBSCRIPTION = "unknown_subscription"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class GapReason(enum.StrEnum):
    """The `reason` of a `gap`: why messages may be missing.

    `RECONNECTED` never travels: a client reports it to its own application
    for a subscription that it could not resume.
    """

    EXPIRED = "expired"
    OVERFLOW = "overflow"
    UNKNOWN_POSITION = "unknown_position"
    EPOCH = "epoch"
    RECONNECTED = "reconnected"


class CloseCode(enum.IntEnum):
    """The WebSocket close codes that Tercet sends or gives a meaning to (RFC 6455, 7.4)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005  # never on the wire: a Close without a code
    ABNORMAL = 1006  # never on the wire: the connection was cut
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 3000
    FORBIDDEN = 3003
    TIMEOUT = 3008
    SLOW_CONSUMER = 4000
    DISCONNECTED = 4500


class Reaction(enum.Enum):
    """What a client does once a connection has ended or a handshake was refused."""

    RECONNECT = "reconnect"  # with backoff, or after `retry_after` where one was told
    RENEW = "renew"  # once, with a new token; then STOP
    STOP = "stop"  # it would only happen again


_STOP_CODES = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_PAYLOAD,
        CloseCode.POLICY_VIOLATION,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.FORBIDDEN,
        CloseCode.DISCONNECTED,
    }
)

_STOP_STATUSES = frozenset({400, 401, 403, 404, 405, 426})


def reaction_to_close(code: int) -> Reaction:
    """Return what a client does after a connection closed with `code`.

    A code that the table does not name is treated like 1006: reconnect with
    backoff, so that a newer broker may introduce codes.
    """
    if code == CloseCode.UNAUTHORIZED:
        return Reaction.RENEW
    return Reaction.STOP if code in _STOP_CODES else Reaction.RECONNECT


def reaction_to_status(status: int) -> Reaction:
    """Return what a client does after the handshake was answered with HTTP `status`."""
    return Reaction.STOP if status in _STOP_STATUSES else Reaction.RECONNECT

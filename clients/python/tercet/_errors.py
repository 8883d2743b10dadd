"""Every error of the client, as a tree.

    TercetError
    ├── ClosedError                    you closed it
    │   ├── ClosedClientError          the `async with connect(...)` block was left
    │   └── ClosedSubscriptionError    the `async with client.subscribe(...)` block was left
    ├── BrokenError                    it happened to you
    │   ├── BrokenClientError          the client stopped for good: reconnecting would not help
    │   │   └── CannotConnectError     … before it was ever connected
    │   └── BrokenSubscriptionError    the broker ended this one subscription
    ├── RefusedError                   the broker refused one request
    └── OutcomeUnknownError            a publish may or may not have happened

A wrong argument is a `ValueError`, as everywhere in Python.
"""

from __future__ import annotations


class TercetError(Exception):
    """What the client raises, apart from `ValueError` for a wrong argument."""


class ClosedError(TercetError):
    """It was used after you closed it, or while you did."""


class ClosedClientError(ClosedError):
    """The client's block was left."""


class ClosedSubscriptionError(ClosedError):
    """The subscription's block was left."""


class BrokenError(TercetError):
    """It ended, and not because you closed it."""


class BrokenClientError(BrokenError):
    """The client stopped for good, because to reconnect would only bring the same again.

    Attributes:
        code: the WebSocket close code (protocol.md, section 6) or the HTTP
            status of the handshake; None where it came to neither.
        reason: one sentence for a person.
    """

    def __init__(self, message: str, *, code: int | None, reason: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class CannotConnectError(BrokenClientError):
    """The client never was connected; the cause is chained where there is one."""


class BrokenSubscriptionError(BrokenError):
    """The broker ended this subscription; the client's others go on.

    Attributes:
        code: an error code of the protocol (protocol.md, section 6).
        message: one sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class RefusedError(TercetError):
    """The broker refused one request; nothing of it happened.

    Attributes:
        code: an error code of the protocol, `forbidden` for example.
        message: one sentence for a person.
        retry_after: seconds after which to ask again may help, or None.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class OutcomeUnknownError(TercetError):
    """A publish was sent, the connection broke, and to send it again might publish it twice.

    That is so where it had no key, and once the broker's memory of the key has
    run out (protocol.md, P-013). You may know whether twice would do harm.

    Attributes:
        topic: what it was published to.
        key: the key it was sent under, or None.
    """

    def __init__(self, topic: str, key: str | None) -> None:
        under = "without a key" if key is None else f"key {key}"
        super().__init__(f"whether the message to {topic!r} was published is unknown ({under})")
        self.topic = topic
        self.key = key

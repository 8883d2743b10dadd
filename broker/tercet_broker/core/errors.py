"""What the core raises.

    CoreError
    └── RefusedError      theirs: a request that cannot be granted; becomes an `error`

A bug of ours is none of these: it is whatever Python raises, ends the
connection in whose turn it happened with 1011, and is logged.
"""

from __future__ import annotations

from tercet_protocol import Error, ErrorCode


class CoreError(Exception):
    """The root of what the core raises on purpose."""


class RefusedError(CoreError):
    """A request was refused.

    Attributes:
        code: which kind of refusal.
        message: one sentence for a person: what was refused, and what would be right.
        retry_after: seconds after which it may be granted, or None if waiting does not help.
    """

    def __init__(self, code: ErrorCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def error_event(id_: int | None, code: ErrorCode, message: str, retry_after: float | None = None) -> Error:
    """Return the `error` that answers a request, or (without an id) tells of something else."""
    return Error(id=id_, code=code, message=message, retry_after=retry_after)

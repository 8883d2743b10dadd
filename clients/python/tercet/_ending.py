"""How an attempt to be connected ended, and what follows from it."""

from __future__ import annotations

from attrs import frozen

from tercet_protocol import CloseCode, ErrorCode, Reaction, reaction_to_close, reaction_to_status

# No broker gets to silence a client for longer than this by one number.
_LONGEST_RETRY_AFTER = 300.0  # seconds

# What a refused `connect` amounts to; the Close that follows says the same.
_CODE_OF_REFUSAL = {
    ErrorCode.UNAUTHORIZED: CloseCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: CloseCode.FORBIDDEN,
    ErrorCode.UNAVAILABLE: CloseCode.TRY_AGAIN_LATER,
    ErrorCode.RATE_LIMITED: CloseCode.TRY_AGAIN_LATER,
    ErrorCode.INTERNAL: CloseCode.INTERNAL_ERROR,
}


@frozen
class Ending:
    """Why there is no connection any more, or was none.

    Attributes:
        reason: one sentence for a person.
        code: the close code, ours or the broker's.
        status: the HTTP status that refused the handshake.
        retry_after: seconds to wait, if the broker said so.
        lasted: seconds from `connected` on; None if it did not come to that.
        farewell: the code of the Close that we send; None if we send none.
        cause: what was raised, if something was.
        is_final: to try again is pointless, whatever the code says.
    """

    reason: str
    code: int | None = None
    status: int | None = None
    retry_after: float | None = None
    lasted: float | None = None
    farewell: int | None = None
    cause: BaseException | None = None
    is_final: bool = False

    @property
    def reaction(self) -> Reaction:
        """What to do now (protocol.md, section 6)."""
        if self.is_final:
            return Reaction.STOP
        if self.status is not None:
            return reaction_to_status(self.status)
        if self.farewell is not None:
            # We closed. What the broker did wrong it may do right next time.
            return Reaction.RENEW if self.code == CloseCode.UNAUTHORIZED else self._reaction_to_refusal()
        return reaction_to_close(CloseCode.ABNORMAL if self.code is None else self.code)

    def _reaction_to_refusal(self) -> Reaction:
        stops = self.code in (CloseCode.FORBIDDEN, CloseCode.POLICY_VIOLATION)
        return Reaction.STOP if stops else Reaction.RECONNECT


def code_of_refusal(code: str) -> int:
    """Return the close code that a refusal of `connect` amounts to."""
    try:
        return _CODE_OF_REFUSAL.get(ErrorCode(code), CloseCode.POLICY_VIOLATION)
    except ValueError:
        return CloseCode.POLICY_VIOLATION


def bounded_delay(seconds: float | None) -> float | None:
    """Return what a broker asked to wait, kept within reason."""
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def read_retry_after(headers: tuple[tuple[bytes, bytes], ...]) -> float | None:
    """Return the seconds of a Retry-After header; its other form, a date, counts as none."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.strip().isdigit():
            return bounded_delay(float(value.strip()[:9]))
    return None

"""Who a client is, and how a connection arrived."""

from __future__ import annotations

from attrs import field, frozen

from .keys import Owner
from .moment import Moment


@frozen
class Identity:
    """Whom a session acts for.

    Attributes:
        user: the name; None for somebody who is not known. Idempotency keys are scoped to it.
        groups: what else is claimed of the user; rules name them.
        expires_at: when this ends, in seconds since 1970 on the wall clock; None for never.
        source: what vouches for it, such as `token:feed`, `jwt:https://login.example` or `certificate`.
    """

    user: str | None = None
    groups: frozenset[str] = frozenset()
    expires_at: float | None = None
    source: str = "nobody"

    def seconds_left(self, moment: Moment) -> float | None:
        """Return for how long this lasts, in seconds; None for ever."""
        if self.expires_at is None:
            return None
        return max(0.0, round(self.expires_at - moment.time / 1000, 3))


ANONYMOUS = Identity()


@frozen
class Arrival:
    """What is known of a connection before it has said anything.

    Attributes:
        identity: whom the listener knows it to be, by a certificate; None if it knows nobody.
        bearer: the token of the handshake's `Authorization: Bearer`, or None.
        is_private: whether what it sends can be read by nobody on the way, so that tokens may be taken from it.
        owner: whose share it takes of what is everybody's while it has no user: where it comes from; None if that
            is not known, and the connection stands for itself.
    """

    identity: Identity | None = None
    bearer: str | None = field(default=None, repr=False)
    is_private: bool = True
    owner: Owner | None = field(default=None, repr=False)

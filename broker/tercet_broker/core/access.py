"""What a broker asks of those who come in: a reload puts another one into its place, in one step."""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, frozen

from .errors import RefusedError
from .identity import Identity
from .moment import Moment
from .rules import Rules

Answer = Callable[[Identity | RefusedError, Moment], None]
"""Is told whose a token is, or why it is refused."""

Review = Callable[[Identity], Identity | None]
"""Says what becomes of an identity that was known before; None if it is known no longer."""


@frozen
class Access:
    """How clients become known, and what they may do then.

    Attributes:
        rules: what each may do.
        takes_tokens: whether tokens mean anything here; without that everybody is anonymous.
        required: whether one has to be known: a `connect` without a token is refused.
        grace: seconds for which a session goes on after its token has expired, for a renewal that is late.
    """

    rules: Rules = Factory(Rules)
    takes_tokens: bool = False
    required: bool = False
    grace: float = 10.0

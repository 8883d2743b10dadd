"""Which web pages may connect: the `Origin` that browsers send and scripts cannot forge (RFC 6454, RFC 6455 10.2).

It protects a user's browser from being used by a page of others. It does not
keep programs out, which send what they like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

# As a browser writes it: lower case, without the port that the scheme has anyway, without a path.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?)(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_origin(text: str) -> None:
    """Raise ValueError, with a sentence, unless `text` is an origin as a browser would send it."""
    if not _ORIGIN.fullmatch(text):
        meant = text.lower().rstrip("/")
        hint = f"; did you mean {meant!r}?" if _ORIGIN.fullmatch(meant) else ", as in 'https://example.org'"
        raise ValueError(f"{text!r} is no origin: it is scheme://host or scheme://host:port{hint}")
    scheme, _, rest = text.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is not None and rest.endswith(port):
        raise ValueError(f"browsers leave the port of {scheme} away: write {text.removesuffix(port)!r}")


@frozen
class OriginRule:
    """Whom a listener lets in.

    Attributes:
        allowed: the origins; None lets every one in.
        allow_absent: whether requests without the header are let in.
    """

    allowed: frozenset[str] | None = None
    allow_absent: bool = True

    def refusal(self, values: Sequence[str]) -> str | None:
        """Return why a request with these `Origin` headers is refused; None if it is not."""
        if not values:
            return None if self.allow_absent else "this listener serves web pages only, and the request has no Origin"
        if len(values) > 1:
            return "a request has one Origin"
        if self.allowed is None or values[0] in self.allowed:
            return None
        return "pages of this Origin may not connect here; the broker's configuration lists those that may"

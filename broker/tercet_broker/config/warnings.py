"""What a configuration may say, and what somebody should know who says it."""

from __future__ import annotations

from collections.abc import Iterator

from ..runtime.address import parse_bind
from .loading import Config
from .problems import Problem


def warnings(config: Config) -> Iterator[Problem]:
    """Yield what is allowed and yet dangerous."""
    if config.daemon.auth is None:
        return
    for number, listener in enumerate(config.daemon.listeners):
        if listener.tls is None and listener.insecure and not parse_bind(listener.bind).is_loopback:
            yield Problem(
                f"listener[{number}]",
                "takes tokens without TLS, because it says insecure = true",
                "right behind something that does TLS; elsewhere whoever listens in can be anyone",
            )

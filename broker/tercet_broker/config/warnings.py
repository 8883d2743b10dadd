"""What a configuration may say, and what somebody should know who says it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from ..runtime.address import parse_bind
from .loading import Config
from .problems import Problem

_NAMELESS = frozenset({"anonymous", "*"})


def warnings(config: Config) -> Iterator[Problem]:
    """Yield what is allowed, and yet dangerous or of no use."""
    yield from _open_tokens(config)
    yield from _readable_secrets(config)
    yield from _rules_for_nobody(config)


def key_warnings(config: Config) -> Iterator[Problem]:
    """Yield which keys of listeners others can read. A listener says so itself when it opens."""
    for number, listener in enumerate(config.daemon.listeners):
        if listener.tls is not None and _is_readable_by_all(listener.tls.key):
            yield Problem(
                f"listener[{number}].tls.key", f"everyone on this machine can read '{listener.tls.key}'", "chmod o-r"
            )


def _open_tokens(config: Config) -> Iterator[Problem]:
    if config.daemon.auth is None:
        return
    for number, listener in enumerate(config.daemon.listeners):
        if listener.tls is None and listener.insecure and not parse_bind(listener.bind).is_loopback:
            yield Problem(
                f"listener[{number}]",
                "takes tokens without TLS, because it says insecure = true",
                "right behind something that does TLS; elsewhere whoever listens in can be anyone",
            )


def _readable_secrets(config: Config) -> Iterator[Problem]:
    """A shared secret makes tokens, unlike a public key."""
    for number, issuer in enumerate(() if config.daemon.auth is None else config.daemon.auth.jwt):
        if issuer.algorithm == "HS256" and issuer.key is not None and _is_readable_by_all(issuer.key):
            message = f"everyone on this machine can read '{issuer.key}', and make tokens for anybody with it"
            yield Problem(f"auth.jwt[{number}].key", message, "chmod o-r")


def _rules_for_nobody(config: Config) -> Iterator[Problem]:
    has_certificates = any(one.tls is not None and one.tls.client_ca is not None for one in config.daemon.listeners)
    if config.daemon.auth is not None or has_certificates:
        return
    for number, rule in enumerate(config.daemon.rules):
        if _NAMELESS.isdisjoint(rule.who):
            yield Problem(
                f"rule[{number}].who",
                "is nobody, for without [auth] and without client_ca everybody is anonymous",
                'an [[auth.token]] or [[auth.jwt]] says who somebody is; "*" is everyone',
            )


def _is_readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # gone since it was loaded; whoever opens it says so
        return False

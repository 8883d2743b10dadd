"""The effective configuration, every option written out, as TOML that loads to the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

from ..core.settings import BrokerSettings, NamespaceSettings
from .loading import Config
from .problems import quote, quote_key

# What a missing option means, where its default is none.
_ABSENT = {
    "history": "none; only the handover run is kept",
    "overflow": "catch_up with history, disconnect without",
    "seconds": "no limit",
    "tls": "none",
    "key": "none",
    "jwks": "none",
    "origins": "none; every page may connect",
    "memory_bytes": "none; four fifths of the memory there is",
}


def render(config: Config) -> str:
    """Return `config` as TOML. Paths are absolute, so it may be kept anywhere."""
    lines: list[str] = []
    for listener in config.daemon.listeners:
        lines += ["[[listener]]", *_options(listener), ""]
    broker = config.daemon.broker
    for name, namespace in broker.namespaces.items():
        lines += [f"[namespace.{quote_key(name)}]", *_options(namespace), ""]
    lines += ["[default]", *_default(broker), ""]
    lines += ["[limits]", *_options(broker.limits), ""]
    lines += ["[connections]", *_options(config.daemon.connections), ""]
    lines += ["[rates]", *_options(config.daemon.rates), ""]
    lines += ["[timeouts]", *_options(config.daemon.timeouts), ""]
    auth = config.daemon.auth
    if auth is not None:
        lines += ["[auth]", *_options(auth, without=("token", "jwt")), ""]
        for token in auth.token:
            lines += ["[[auth.token]]", *_options(token), ""]
        for jwt in auth.jwt:
            lines += ["[[auth.jwt]]", *_options(jwt), ""]
    for rule in config.daemon.rules:
        lines += ["[[rule]]", *_options(rule), ""]
    lines += ["[logging]", *_options(config.logging)]
    return "\n".join(lines) + "\n"


def _default(broker: BrokerSettings) -> Iterator[str]:
    yield f"allow = {_value(broker.unnamed is not None)}"
    yield f"limit = {_value(broker.unnamed_limit)}"
    yield from _options(broker.unnamed or NamespaceSettings())


def _options(settings: attrs.AttrsInstance, *, without: Collection[str] = ()) -> Iterator[str]:
    for name, value in _items(settings).items():
        if name in without:
            continue
        if value is None:
            yield f"# {name}: {_ABSENT[name]}"
        else:
            yield f"{name} = {_value(value)}"


def _items(settings: attrs.AttrsInstance) -> Mapping[str, object]:
    return {attribute.name: getattr(settings, attribute.name) for attribute in attrs.fields(type(settings))}


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value:_}"
        case float():
            return repr(value)
        case Path():
            return quote(str(value.absolute()))
        case str():
            return quote(value)
        case tuple():
            return f"[{', '.join(_value(item) for item in value)}]"
        case _ if attrs.has(type(value)):
            items = _items(value)  # type: ignore[arg-type] # attrs.has is no type guard for an object
            return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in items.items() if v is not None) + " }"
        case _:
            raise TypeError(f"{type(value).__name__} has no place in a configuration")

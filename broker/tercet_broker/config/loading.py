"""Loads a configuration file: reads it, structures each section, and checks what spans several options."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import Factory, field, frozen

from ..core.rules import Rule, check_rule_filter, check_subject
from ..core.settings import BrokerSettings, LimitSettings, NamespaceSettings, positive
from ..logs import LoggingSettings
from ..runtime.address import Address, TcpAddress, parse_bind
from ..runtime.json_web_tokens import load_key
from ..runtime.key_set import check_url
from ..runtime.networks import parse_network
from ..runtime.origins import check_origin
from ..runtime.settings import (
    AuthSettings,
    ConnectionSettings,
    DaemonSettings,
    JwtSettings,
    ListenerSettings,
    RateSettings,
    TimeoutSettings,
)
from .problems import ConfigError, Problem, did_you_mean
from .structure import InvalidValueError, Structurer, join
from .tls import check_pair

T = TypeVar("T")

MAX_FILE = 1024 * 1024
"""Bytes of a configuration file. A larger one is something else, such as a device without an end."""

MAX_BACKLOG = 65_535  # the kernel takes 32 bits and then cuts the number down by itself

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_PLACE = re.compile(r"(?P<what>.*?) \((?P<where>at .*)\)", re.DOTALL)


@frozen
class Config:
    """Everything that a configuration file says, and the defaults of what it does not."""

    daemon: DaemonSettings = Factory(DaemonSettings)
    logging: LoggingSettings = Factory(LoggingSettings)


@frozen
class DefaultNamespaceSettings(NamespaceSettings):
    """The section `[default]`: how a namespace behaves that has no section of its own.

    Attributes:
        allow: whether there may be any.
        limit: how many at once.
    """

    allow: bool = True
    limit: int = field(default=1000, validator=positive)

    def namespace(self) -> NamespaceSettings:
        """Return what is common to all namespaces."""
        names = [attribute.name for attribute in attrs.fields(NamespaceSettings)]
        return NamespaceSettings(**{name: getattr(self, name) for name in names})


SECTIONS: Mapping[str, type] = {
    "listener": ListenerSettings,
    "namespace": NamespaceSettings,
    "default": DefaultNamespaceSettings,
    "limits": LimitSettings,
    "connections": ConnectionSettings,
    "rates": RateSettings,
    "timeouts": TimeoutSettings,
    "auth": AuthSettings,
    "rule": Rule,
    "logging": LoggingSettings,
}
"""{section of the file: the class that one of its tables becomes}"""


def load(path: str | Path) -> Config:
    """Return what the file at `path` says. Files that it names are relative to its folder.

    The files of certificates and keys are read as well, to see that they fit.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or says what cannot
            be; it holds every problem, not just the first.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        folder = path.absolute().parent
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(str(path), [Problem("", f"cannot be read: {reason}")]) from error
    if len(content) > MAX_FILE:
        problem = Problem("", f"is larger than {MAX_FILE} bytes: that is no configuration")
        raise ConfigError(str(path), [problem])
    try:
        text = content.decode("utf-8-sig")  # editors on Windows put a mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem("", f"is not UTF-8 text: byte 0x{content[error.start]:02x} in line {line}")
        raise ConfigError(str(path), [problem]) from error
    return parse(text, folder, str(path))


def parse(text: str, folder: Path, name: str = "configuration") -> Config:
    """Return what the TOML in `text` says; `name` is what errors call it.

    Raises:
        ConfigError: as for `load`.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(name, [Problem("", "is nested too deep")]) from error
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python converts
        raise ConfigError(name, [_syntax_problem(str(error))]) from error
    loading = _Loading(document, folder)
    config = loading.config()
    if config is None:
        raise ConfigError(name, loading.problems)
    return config


def _syntax_problem(error: str) -> Problem:
    found = _PLACE.fullmatch(error)
    if found is None:
        return Problem("", "holds a number of too many digits" if "digits" in error else f"is no TOML: {error}")
    what, where = found["what"], found["where"].removeprefix("at ")
    return Problem("", f"{where}: {what[:1].lower() + what[1:]}")


class _Loading:
    """One pass over a document; `problems` fills as it goes."""

    def __init__(self, document: Mapping[str, Any], folder: Path) -> None:
        self.problems: list[Problem] = []
        self._document = document
        self._structurer = Structurer(
            folder,
            {
                (ListenerSettings, "bind"): parse_bind,
                (ListenerSettings, "path"): _check_path,
                (ListenerSettings, "backlog"): _check_backlog,
                (JwtSettings, "jwks"): check_url,
            },
            {
                (ListenerSettings, "origins"): check_origin,
                (ListenerSettings, "trusted_proxies"): parse_network,
                (Rule, "who"): check_subject,
                (Rule, "filters"): check_rule_filter,
            },
        )

    def config(self) -> Config | None:
        """Return the configuration, or None if there are problems."""
        self._check_sections()
        listeners = self._listeners()
        namespaces = self._namespaces()
        default = self._table("default", DefaultNamespaceSettings)
        limits = self._table("limits", LimitSettings)
        connections = self._table("connections", ConnectionSettings)
        rates = self._table("rates", RateSettings)
        timeouts = self._table("timeouts", TimeoutSettings)
        auth = self._auth()
        rules = self._rules()
        logging = self._table("logging", LoggingSettings)
        if default is not None and not default.allow and not self._document.get("namespace"):
            message = "without a [namespace.NAME] there is no topic that anyone could use"
            self.problems.append(Problem("default.allow", message))
        if (
            self.problems
            or default is None
            or limits is None
            or connections is None
            or rates is None
            or timeouts is None
            or logging is None
        ):
            return None
        broker = BrokerSettings(
            namespaces=namespaces,
            unnamed=default.namespace() if default.allow else None,
            unnamed_limit=default.limit,
            limits=limits,
        )
        return Config(DaemonSettings(listeners, broker, timeouts, connections, rates, auth, rules), logging)

    def _check_sections(self) -> None:
        for key in self._document:
            if key in SECTIONS:
                continue
            homes = [name for name, cls in SECTIONS.items() if key in attrs.fields_dict(cls)]
            suggestion = did_you_mean(key, SECTIONS)
            if suggestion is None and homes:
                suggestion = f"it belongs into {' or '.join(_heading(name) for name in homes)}"
            self.problems.append(Problem(join("", key), "unknown section", suggestion))

    def _structure(self, value: object, cls: type[T], path: str) -> T | None:
        structured, problems = self._structurer.structure(value, cls, path)
        self.problems += problems
        return structured

    def _table(self, name: str, cls: type[T]) -> T | None:
        return self._structure(self._document.get(name, {}), cls, name)

    def _auth(self) -> AuthSettings | None:
        if "auth" not in self._document:
            return None
        auth = self._table("auth", AuthSettings)
        if auth is None:
            return None
        if not (auth.token or auth.jwt):
            message = "without a [[auth.token]] or a [[auth.jwt]] there is nobody that anyone could be"
            self.problems.append(Problem("auth", message))
        ids: dict[str, int] = {}
        for number, token in enumerate(auth.token):
            if ids.setdefault(token.id, number) != number:
                message = f"{token.id!r} is taken by auth.token[{ids[token.id]}]"
                self.problems.append(Problem(f"auth.token[{number}].id", message))
        for number, jwt in enumerate(auth.jwt):
            if jwt.key is None:
                continue
            try:
                load_key(jwt.key, jwt.algorithm)
            except (OSError, ValueError) as error:
                strerror = error.strerror if isinstance(error, OSError) else None
                message = f"'{jwt.key}' cannot be read: {strerror}" if strerror else str(error)
                self.problems.append(Problem(f"auth.jwt[{number}].key", message))
        return auth

    def _rules(self) -> tuple[Rule, ...]:
        tables = self._document.get("rule", [])
        if not isinstance(tables, list):
            self.problems.append(Problem("rule", "there may be several: write [[rule]], with two brackets"))
            return ()
        found = (self._structure(table, Rule, f"rule[{number}]") for number, table in enumerate(tables))
        return tuple(rule for rule in found if rule is not None)

    def _namespaces(self) -> dict[str, NamespaceSettings]:
        tables = self._document.get("namespace", {})
        if not isinstance(tables, dict):
            self.problems.append(Problem("namespace", "each has a table: [namespace.NAME]"))
            return {}
        namespaces = {}
        for name, table in tables.items():
            path = join("namespace", name)
            try:
                BrokerSettings(namespaces={name: NamespaceSettings()})  # its own rule for names
            except ValueError as error:
                self.problems.append(Problem(path, str(error)))
            if not isinstance(table, dict) and name in attrs.fields_dict(DefaultNamespaceSettings):
                suggestion = "options go into a namespace's own table, [namespace.NAME], or into [default]"
                self.problems.append(Problem(path, "is not the table of a namespace", suggestion))
            elif (settings := self._structure(table, NamespaceSettings, path)) is not None:
                namespaces[name] = settings
        return namespaces

    def _listeners(self) -> tuple[ListenerSettings, ...]:
        tables = self._document.get("listener")
        if tables is None:
            return DaemonSettings().listeners
        if not isinstance(tables, list):
            message = "there may be several: write [[listener]], with two brackets"
            self.problems.append(Problem("listener", message))
            return ()
        if not tables:
            self.problems.append(Problem("listener", "there must be one at least"))
        listeners = []
        bound: list[tuple[str, Address]] = []  # (path of the listener, its address)
        for number, table in enumerate(tables):
            path = f"listener[{number}]"
            listener = self._structure(table, ListenerSettings, path)
            if listener is None:
                continue
            address = parse_bind(listener.bind)
            self.problems += _listener_problems(path, listener, address, bound)
            bound.append((path, address))
            listeners.append(listener)
        return tuple(listeners)


def _heading(name: str) -> str:
    special = {"listener": "[[listener]]", "namespace": "[namespace.NAME]", "rule": "[[rule]]"}
    return special.get(name, f"[{name}]")


def _listener_problems(
    path: str, listener: ListenerSettings, address: Address, bound: list[tuple[str, Address]]
) -> Iterator[Problem]:
    for other_path, other in bound:
        if _collide(address, other):
            yield Problem(f"{path}.bind", f"{address} is taken by {other_path} ({other})")
            break
    if listener.tls is not None:
        for attribute, message in check_pair(listener.tls):
            yield Problem(join(f"{path}.tls", attribute), message)
        if listener.tls.client_ca is not None and listener.origins is None:
            yield Problem(
                f"{path}.origins",
                "is missing: a browser shows its user's certificate for whatever page asks it to",
                'list the pages that may, as in origins = ["https://example.org"]; [] is none',
            )
    elif not (listener.insecure or address.is_loopback):
        yield Problem(
            f"{path}.bind",
            f"{address} can be reached from other machines, where anyone on the way could read and change what is sent",
            "add tls = { certificate = …, key = … }, or insecure = true if something in front does TLS",
        )

    if listener.proxy_protocol and not listener.trusted_proxies:
        yield Problem(f"{path}.proxy_protocol", "is of no use without trusted_proxies, from whom it would be believed")


def _collide(one: Address, other: Address) -> bool:
    """Tell whether the kernel would refuse the second of two addresses."""
    if not (isinstance(one, TcpAddress) and isinstance(other, TcpAddress)):
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    if one.host.lower() == other.host.lower():
        return True
    versions = {_ip_version(one.host), _ip_version(other.host)}
    return len(versions) == 1 and not _WILDCARDS.isdisjoint({one.host, other.host})


def _ip_version(host: str) -> int | str:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return host


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidValueError("must begin with '/'", f"did you mean '/{path}'?")
    if not path.isascii() or not path.isprintable() or any(character in path for character in " ?#"):
        raise InvalidValueError("must be the path of a URL: printable ASCII without spaces, '?' and '#'")


def _check_backlog(backlog: int) -> None:
    if backlog > MAX_BACKLOG:
        raise InvalidValueError(f"may be {MAX_BACKLOG} at most")

"""The configurations in `config/` load, and say what they say they do."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import attrs

from tercet_broker import config
from tercet_broker.config.loading import SECTIONS
from tercet_broker.core import Action, Identity, Rule, Rules
from tercet_broker.runtime import AuthSettings, JwtSettings, TokenSettings
from tercet_protocol import parse_filter

EXAMPLES = Path(__file__).parents[2] / "config"


def test_every_example_is_tested_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.toml")} == {
        *("plain.toml", "tls.toml", "auth.toml"),
        *("proxied.toml", "mutual-tls.toml", "systemd.toml", "container.toml"),  # test_deployment.py
    }


def test_plain_example_differs_from_the_default_in_its_namespaces_alone() -> None:
    """What its first comment promises: every value in it is the default."""
    loaded = config.load(EXAMPLES / "plain.toml")
    default = config.Config()
    assert set(loaded.daemon.broker.namespaces) == {"prices", "chat"}
    assert attrs.evolve(loaded.daemon, broker=attrs.evolve(loaded.daemon.broker, namespaces={})) == default.daemon
    assert loaded.logging == default.logging


def test_plain_example_shows_every_option() -> None:
    """Options whose default is none are shown in a comment, or in a namespace."""
    text = (EXAMPLES / "plain.toml").read_text()
    document: dict[str, Any] = tomllib.loads(text)
    for section, cls in SECTIONS.items():
        if section in {"auth", "rule"}:
            continue  # they have an example of their own
        tables = {"listener": lambda: document["listener"][0], "namespace": lambda: document["namespace"]["prices"]}
        table = tables.get(section, lambda section=section: document[section])()
        for attribute in attrs.fields(cls):
            shown = attribute.name in table or re.search(rf"^# {attribute.name} = ", text, re.MULTILINE)
            # TLS has an example of its own; history is a namespace's affair.
            assert shown or (section, attribute.name) in {("listener", "tls"), ("default", "history")}, attribute.name


def test_tls_example_loads_beside_certificates(tmp_path: Path) -> None:
    """It wants the folder that `tercet certificate certificates` makes."""
    from tercet_broker import certificates  # noqa: PLC0415

    (tmp_path / "config").mkdir()
    shutil.copy(EXAMPLES / "tls.toml", tmp_path / "config")
    certificates.write(certificates.make(certificates.DEFAULT_NAMES), tmp_path / "certificates")
    loaded = config.load(tmp_path / "config" / "tls.toml")
    public, local = loaded.daemon.listeners
    assert public.tls is not None
    assert public.tls.key.resolve() == tmp_path.resolve() / "certificates" / "key.pem"
    assert not public.insecure
    assert local.tls is None


def test_auth_example_loads_and_shows_every_option(tmp_path: Path) -> None:
    from tercet_broker import certificates  # noqa: PLC0415

    (tmp_path / "config").mkdir()
    shutil.copy(EXAMPLES / "auth.toml", tmp_path / "config")
    shutil.copy(EXAMPLES / "issuer.pem", tmp_path / "config")
    certificates.write(certificates.make(certificates.DEFAULT_NAMES), tmp_path / "certificates")
    daemon = config.load(tmp_path / "config" / "auth.toml").daemon
    assert daemon.auth is not None
    assert [token.user for token in daemon.auth.token] == ["feed"]
    assert [jwt.algorithm for jwt in daemon.auth.jwt] == ["EdDSA"]
    rules = Rules(daemon.rules)
    alice, feed = rules.grants(Identity("alice")), rules.grants(Identity("feed", frozenset({"publishers"})))
    assert alice is not None
    assert feed is not None
    assert feed.covers(Action.PUBLISH, parse_filter("prices/#"))
    assert not alice.covers(Action.PUBLISH, parse_filter("prices/x"))
    assert alice.covers(Action.SUBSCRIBE, parse_filter("inbox/alice/#"))
    assert not alice.covers(Action.SUBSCRIBE, parse_filter("inbox/feed"))
    document: dict[str, Any] = tomllib.loads((EXAMPLES / "auth.toml").read_text())
    text = (EXAMPLES / "auth.toml").read_text()
    shown = [
        (AuthSettings, document["auth"]),
        (TokenSettings, document["auth"]["token"][0]),
        (JwtSettings, document["auth"]["jwt"][0]),
        (Rule, document["rule"][0]),
    ]
    for cls, table in shown:
        for attribute in attrs.fields(cls):
            assert attribute.name in table or f"# {attribute.name} = " in text, attribute.name


def test_tls_example_without_certificates_says_which_files(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "tls.toml", tmp_path)
    try:
        config.load(tmp_path / "tls.toml")
    except config.ConfigError as error:
        assert [problem.path for problem in error.problems] == [
            "listener[0].tls.certificate",
            "listener[0].tls.key",
        ]
    else:
        raise AssertionError("it loaded")

"""The effective configuration loads to what it was made of."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TypeVar, get_type_hints

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet_broker import config
from tercet_broker.core import Action, Rule
from tercet_broker.core.settings import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.logs import LoggingSettings
from tercet_broker.runtime.settings import (
    AuthSettings,
    ConnectionSettings,
    DaemonSettings,
    JwtSettings,
    ListenerSettings,
    RateSettings,
    TimeoutSettings,
    TlsSettings,
    TokenSettings,
)

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$6W0SzRvOPl4Uhp0tqDF4tw"
T = TypeVar("T")

counts = st.integers(1, 2**63 - 1)
seconds = st.floats(min_value=0, exclude_min=True, allow_infinity=False)

histories = st.builds(
    HistorySettings,
    messages=counts,
    bytes=counts,
    seconds=st.none() | seconds,
    per_topic=st.integers(0, 2**63 - 1),
)
namespaces = st.builds(
    NamespaceSettings, history=st.none() | histories, retained=st.booleans(), topics=counts, keys=counts
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/+#$"), min_size=1, max_size=20)


@st.composite
def limits(draw: st.DrawFn) -> LimitSettings:
    values = {
        attribute.name: draw(seconds if attribute.name.endswith("_seconds") else counts)
        for attribute in attrs.fields(LimitSettings)
    }
    values["message_bytes"] = draw(st.integers(1, 2**61))
    values["outbox_bytes"] = draw(st.integers(2 * int(values["message_bytes"]), 2**63 - 1))
    return LimitSettings(**values)  # type: ignore[arg-type] # values of both kinds, each in its place


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
rules = st.builds(
    Rule,
    who=st.lists(
        st.sampled_from(["*", "anonymous", "authenticated"]) | texts.map("user:{}".format), min_size=1, max_size=3
    ).map(tuple),
    allow=st.lists(st.sampled_from(Action), min_size=1, max_size=4).map(tuple),
    filters=st.lists(st.sampled_from(["a/#", "+/x", "inbox/{user}/#"]), min_size=1, max_size=3).map(tuple),
)
tokens = st.builds(
    TokenSettings,
    id=st.text(string.ascii_letters, min_size=1, max_size=8),
    hash=st.just(HASH),
    user=texts,
    groups=st.lists(texts, max_size=2).map(tuple),
)
published = st.builds(
    JwtSettings,
    issuer=texts,
    audience=texts,
    algorithm=st.sampled_from(["RS256", "ES256", "EdDSA"]),
    key=st.none(),
    jwks=st.just("https://login.example/keys"),
    user_claim=texts,
    groups_claim=texts,
)
auths = st.builds(
    AuthSettings,
    required=st.booleans(),
    grace=st.floats(min_value=0, allow_infinity=False),
    token=st.lists(tokens, min_size=1, max_size=2, unique_by=lambda token: token.id).map(tuple),
    jwt=st.lists(published, max_size=2).map(tuple),
)


def _numbers(cls: type[T]) -> st.SearchStrategy[T]:
    """Settings that are numbers, all of them above every lower bound that there is."""
    large = st.floats(min_value=2.0**20, allow_infinity=False)
    kinds = {int: counts, float: seconds if cls is TimeoutSettings else large, int | None: st.none() | counts}
    types = get_type_hints(cls)
    return st.builds(cls, **{name: kinds[type_] for name, type_ in types.items()})


@st.composite
def configurations(draw: st.DrawFn, pems: Path) -> config.Config:
    tls = TlsSettings(pems / "cert.pem", pems / "key.pem")
    mutual = attrs.evolve(tls, client_ca=pems / "cert.pem", client_certificates="optional")
    networks = draw(st.lists(st.sampled_from(["10.0.0.0/8", "::1", "fd00::/8"]), min_size=1, max_size=2))
    listeners = tuple(
        ListenerSettings(
            f"{draw(st.sampled_from(['127.0.0.1', '[::1]', 'localhost', '10.0.0.1', 'unix:/run/x']))}:{port}",
            path="/" + draw(st.text(string.ascii_letters + '"\\/', max_size=5)),
            tls=draw(st.sampled_from([None, tls, mutual])),
            origins=tuple(draw(st.lists(st.sampled_from(["https://a.b", "http://[::1]:8000"]), max_size=2))),
            allow_no_origin=draw(st.booleans()),
            trusted_proxies=tuple(networks),
            proxy_protocol=draw(st.booleans()),
            insecure=True,
            backlog=draw(st.integers(1, 65535)),
        )
        for port in range(1, draw(st.integers(2, 4)))
    )
    named = draw(st.dictionaries(names, namespaces, max_size=3))
    unnamed = draw(namespaces if not named else st.none() | namespaces)
    return config.Config(
        DaemonSettings(
            listeners,
            BrokerSettings(named, unnamed, draw(counts), draw(limits())),
            draw(_numbers(TimeoutSettings)),
            draw(_numbers(ConnectionSettings)),
            draw(_numbers(RateSettings)),
            draw(st.none() | auths),
            draw(st.lists(rules, max_size=2).map(tuple)),
        ),
        draw(
            st.builds(
                LoggingSettings,
                st.sampled_from(["debug", "info", "warning", "error"]),
                st.sampled_from(["auto", "console", "json"]),
            )
        ),
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_render_round_trip(pems: Path, data: st.DataObject) -> None:
    made = data.draw(configurations(pems))
    text = config.render(made)
    # From another folder: paths in it are absolute.
    assert config.parse(text, Path("/nonexistent")) == made


def test_render_says_what_is_absent() -> None:
    text = config.render(config.Config())
    assert "# history: none" in text
    assert "# tls: none" in text


def test_render_is_readable() -> None:
    text = config.render(config.parse("[namespace.prices]\nhistory = { seconds = 60 }", Path()))
    assert (
        "[namespace.prices]\nhistory = { messages = 10_000, bytes = 67_108_864, seconds = 60.0, per_topic = 0 }" in text
    )

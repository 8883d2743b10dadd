"""The effective configuration loads to what it was made of."""

from __future__ import annotations

import string
from pathlib import Path

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet_broker import config
from tercet_broker.core.settings import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.logs import LoggingSettings
from tercet_broker.runtime.settings import DaemonSettings, ListenerSettings, TimeoutSettings, TlsSettings

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


@st.composite
def configurations(draw: st.DrawFn, pems: Path) -> config.Config:
    tls = TlsSettings(pems / "cert.pem", pems / "key.pem")
    listeners = tuple(
        ListenerSettings(
            f"{draw(st.sampled_from(['127.0.0.1', '[::1]', 'localhost', '10.0.0.1', 'unix:/run/x']))}:{port}",
            path="/" + draw(st.text(string.ascii_letters + '"\\/', max_size=5)),
            tls=draw(st.sampled_from([None, tls])),
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
            draw(st.builds(TimeoutSettings, **{a.name: seconds for a in attrs.fields(TimeoutSettings)})),
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

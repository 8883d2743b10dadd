"""Loading: what a file may say, and every problem at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker import config
from tercet_broker.core.settings import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.logs import LoggingSettings
from tercet_broker.runtime.settings import DaemonSettings, ListenerSettings, TimeoutSettings, TlsSettings


def problems(text: str, folder: Path = Path()) -> dict[str, str]:
    """Return {path: message (suggestion)} of a text that must not load."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, folder)
    found = {}
    for problem in caught.value.problems:
        assert problem.path not in found, "two problems of one path: list them in a test of their own"
        found[problem.path] = f"{problem.message} ({problem.suggestion})" if problem.suggestion else problem.message
    return found


def test_empty_file_is_the_default() -> None:
    assert config.parse("", Path()) == config.Config(DaemonSettings(), LoggingSettings())


def test_default_section_defaults_are_those_of_the_core() -> None:
    """`[default]` repeats one default of the core, its limit."""
    assert config.parse("[default]", Path()).daemon.broker == BrokerSettings()


def test_full_file(pems: Path) -> None:
    text = """
        [[listener]]
        bind = "127.0.0.1:8080"
        [[listener]]
        bind = "0.0.0.0:8443"
        path = "/ws"
        backlog = 5
        tls = { certificate = "cert.pem", key = "key.pem" }
        [[listener]]
        bind = "0.0.0.0:8081"
        insecure = true
        [namespace.prices]
        history = { messages = 10_000, seconds = 3600, per_topic = 50 }
        [namespace."my chat"]
        retained = false
        [default]
        limit = 3
        topics = 4
        [limits]
        message_bytes = 1000
        key_seconds = 1.5
        [timeouts]
        heartbeat = 5
        [logging]
        level = "debug"
        format = "json"
    """
    assert config.parse(text, pems) == config.Config(
        DaemonSettings(
            listeners=(
                ListenerSettings("127.0.0.1:8080"),
                ListenerSettings(
                    "0.0.0.0:8443",
                    path="/ws",
                    backlog=5,
                    tls=TlsSettings(pems / "cert.pem", pems / "key.pem"),
                ),
                ListenerSettings("0.0.0.0:8081", insecure=True),
            ),
            broker=BrokerSettings(
                namespaces={
                    "prices": NamespaceSettings(HistorySettings(messages=10_000, seconds=3600.0, per_topic=50)),
                    "my chat": NamespaceSettings(retained=False),
                },
                unnamed=NamespaceSettings(topics=4),
                unnamed_limit=3,
                limits=LimitSettings(message_bytes=1000, key_seconds=1.5),
            ),
            timeouts=TimeoutSettings(heartbeat=5.0),
        ),
        LoggingSettings("debug", "json"),
    )


def test_default_may_forbid_unnamed_namespaces() -> None:
    loaded = config.parse("[default]\nallow = false\n[namespace.a]", Path())
    assert loaded.daemon.broker.unnamed is None


def test_all_problems_at_once() -> None:
    text = """
        verbose = true
        [[listener]]
        bind = "0.0.0.0:8080"
        [[listener]]
        bind = "127.0.0.1:http"
        port = 3
        [[listener]]
        path = "ws"
        [namespace.prices]
        history = { messages = "10", bytes = -3, seconds = nan, per_topic = -1 }
        [namespace."a/b"]
        [default]
        limit = 0
        [limits]
        mesage_bytes = 3
        [timeouts]
        pong = "10"
        heartbeat = inf
        [logging]
        level = "wran"
    """
    found = problems(text)
    assert list(found) == [
        "verbose",
        "listener[0].bind",
        "listener[1].bind",
        "listener[1].port",
        "listener[2].bind",
        "listener[2].path",
        "namespace.prices.history.messages",
        "namespace.prices.history.bytes",
        "namespace.prices.history.seconds",
        "namespace.prices.history.per_topic",
        'namespace."a/b"',
        "default.limit",
        "limits.mesage_bytes",
        "timeouts.heartbeat",
        "timeouts.pong",
        "logging.level",
    ]
    assert found["limits.mesage_bytes"] == "unknown option (did you mean 'message_bytes'?)"
    assert found["namespace.prices.history.bytes"] == "must be greater than 0, not -3"
    assert found["namespace.prices.history.per_topic"] == "must be at least 0, not -1"
    assert found["listener[2].bind"] == "is missing"


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("[limits]\nlast = '8080'", "limits.last", 'not the text "8080" (without quotes: 8080)'),
        ("[limits]\nlast = true", "limits.last", "must be a whole number, not true"),
        ("[limits]\nlast = 1.0", "limits.last", "not the number 1.0 (did you mean 1?)"),
        ("[limits]\nlast = 9223372036854775808", "limits.last", "too large"),
        ("[timeouts]\nclose = true", "timeouts.close", "must be a number, not true"),
        ("[timeouts]\nclose = '2.5'", "timeouts.close", "(without quotes: 2.5)"),
        ("[timeouts]\nclose = 2026-01-01", "timeouts.close", "not the date 2026-01-01"),
        ("[timeouts]\nclose = []", "timeouts.close", "not a list"),
        ("[timeouts]\nclose = {}", "timeouts.close", "not a table"),
        ("[default]\nretained = 1", "default.retained", "not the number 1 (did you mean true?)"),
        ("[default]\nretained = 'false'", "default.retained", "(without quotes: false)"),
        ("[[listener]]\nbind = 8080", "listener[0].bind", 'must be a text, not the number 8080 (in quotes: "8080")'),
        ("[logging]\nlevel = 3", "logging.level", "must be one of debug, info, warning, error"),
        ("limits = 3", "limits", "must be a table, not the number 3"),
        ("[default]\nhistory = 100", "default.history", "as in { messages = 10_000 }"),
    ],
)
def test_types_are_strict(text: str, path: str, says: str) -> None:
    assert says in problems(text)[path]


def test_whole_numbers_are_fine_seconds() -> None:
    assert config.parse("[timeouts]\nclose = 3600", Path()).daemon.timeouts.close == 3600.0


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("[listeners]", "listeners", "did you mean 'listener'?"),
        ("message_bytes = 3", "message_bytes", "it belongs into [limits]"),
        ("[listener]\nbind = 'x:1'", "listener", "write [[listener]], with two brackets"),
        ("listener = []", "listener", "one at least"),
        ("namespace = 3", "namespace", "[namespace.NAME]"),
        ("[namespace]\nretained = true", "namespace.retained", "or into [default]"),
        ("[namespace.'$sys']", 'namespace."$sys"', "'$'"),
        ("[namespace.'a+b']", 'namespace."a+b"', "+"),
        ("[default]\nallow = false", "default.allow", "no topic that anyone could use"),
        ("[limits]\noutbox_bytes = 1000", "limits", "at least twice message_bytes"),
        ("[[listener]]\nbind = 'x:1'\ninsecure = true\nbacklog = 65536", "listener[0].backlog", "65535 at most"),
        ("[[listener]]\nbind = 'localhost:1'\npath = 'ws'", "listener[0].path", "did you mean '/ws'?"),
        ("[[listener]]\nbind = 'localhost:1'\npath = '/a?b'", "listener[0].path", "without spaces"),
        ('[[listener]]\nbind = "localhost:1"\npath = "/\\u001b"', "listener[0].path", "without spaces"),
    ],
)
def test_problems_of_structure(text: str, path: str, says: str) -> None:
    assert says in problems(text)[path]


@pytest.mark.parametrize("bind", ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "broker.example.org:80"])
def test_plain_public_listener_is_refused_unless_insecure(bind: str) -> None:
    text = f'[[listener]]\nbind = "{bind}"\n'
    assert "insecure = true" in problems(text)["listener[0].bind"]
    assert config.parse(text + "insecure = true", Path()).daemon.listeners[0].insecure


@pytest.mark.parametrize("bind", ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80", "unix:/run/x"])
def test_plain_loopback_listener_is_fine(bind: str) -> None:
    assert config.parse(f'[[listener]]\nbind = "{bind}"', Path()).daemon.listeners[0].bind == bind


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("[::1]:80", "[0:0::1]:80", True),
        ("localhost:80", "LOCALHOST:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::1]:80", "[::]:80", True),
        ("unix:/a", "unix:/a", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("0.0.0.0:80", "[::]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("unix:/a", "unix:/b", False),
    ],
)
def test_two_listeners_cannot_have_one_address(one: str, other: str, *, collide: bool) -> None:
    text = "".join(f'[[listener]]\nbind = "{bind}"\ninsecure = true\n' for bind in (one, other))
    if collide:
        assert "taken by listener[0]" in problems(text)["listener[1].bind"]
    else:
        assert len(config.parse(text, Path()).daemon.listeners) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = ", "end of document: invalid value"),
        (b"\n\n[limits\n", "line 3, column 8: expected"),
        (b"[limits]\n[limits]\n", "line 2, column 8: cannot declare"),
        (b"a = 1\nb = \xff", "byte 0xff in line 2"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "line 1, column 1"),
        (b"a = " + b"9" * 5000, "too many digits"),
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"#" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_file_is_no_toml(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(config.ConfigError) as caught:
        config.load(file)
    (problem,) = caught.value.problems
    assert says in problem.message
    assert str(caught.value).startswith(f"{file}: ")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="cannot be read: No such file"):
        config.load(tmp_path / "none.toml")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path)


def test_device_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(config.ConfigError, match="larger than"):
        config.load("/dev/zero")


def test_windows_mark_and_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "windows.toml"
    file.write_bytes(b"\xef\xbb\xbf[limits]\r\nlast = 5\r\n")
    assert config.load(file).daemon.broker.limits.last == 5


def test_control_characters_do_not_reach_the_terminal() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.parse('"\\u001b[2J" = 1\n[logging]\nlevel = "\\u009b31m"', Path())
    assert str(caught.value).replace("\n", "").isprintable()


toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_value_anywhere_is_a_config_error_or_fine(data: st.DataObject) -> None:
    """No TOML, however odd, raises anything else."""
    options = {
        "listener": ["bind", "path", "tls", "insecure", "backlog"],
        "namespace": ["history", "overflow", "retained", "topics", "keys"],
        "default": ["allow", "limit", "history"],
        "limits": ["last", "key_seconds"],
        "timeouts": ["write"],
        "logging": ["level", "format"],
    }
    section = data.draw(st.sampled_from(sorted(options)))
    option = data.draw(st.sampled_from(options[section]))
    value = _toml(data.draw(toml_values))
    heading = {"listener": "[[listener]]", "namespace": "[namespace.n]"}.get(section, f"[{section}]")
    for text in (f"{heading}\n{option} = {value}", f"{section} = {value}", f"{section} = [{value}]"):
        try:
            config.render(config.parse(text, Path()))
        except config.ConfigError as error:
            assert str(error)


def _toml(value: object) -> str:
    match value:
        case None:
            return "{}"
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(c):08x}" if c not in "abc" else c for c in value) + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
        case _:
            return str(value)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tercet
from tercet_protocol import Position
from tercet_testing import History
from tercet_testing.checker import IncorrectHistoryError
from tercet_testing.events import (
    Acked,
    Delivered,
    Event,
    Failed,
    GapTold,
    Left,
    LiveTold,
    Publishing,
    Subscribed,
    Subscribing,
    Unsubscribed,
    dump,
    load,
)


def record() -> History:
    history = History(now=lambda: 1.5)
    sub = history.subscribing("screen", "n/#", since="e:0", last=None)
    history.subscribed("screen", sub)
    one = history.publishing("feed", "n/x", {"a": 1.50}, retain=True, key="k" * 16, echo=False)
    history.acked("feed", one, tercet.Published(Position("e", 1), duplicate=True))
    two = history.publishing("feed", "n/x", tercet.Raw(b'"\xc3\xa9"'), retain=False, key=None)
    history.failed("feed", two, tercet.RefusedError("forbidden", "no"))
    three = history.publishing("feed", "n/x", 3, retain=False, key=None)
    history.failed("feed", three, tercet.OutcomeUnknownError("n/x", "k"))
    history.told("screen", sub, tercet.Message("n/x", 1, "e", 0, b'{"a":1.5}', retained=True))
    history.told("screen", sub, tercet.Gap("n", "e", 1, 2, None, tercet.GapReason.OVERFLOW))
    history.told("screen", sub, tercet.Live(Position("e", 2)))
    history.unsubscribed("screen", sub)
    history.left("screen")
    return history


def test_history_records_what_happens() -> None:
    at = 1.5
    assert list(record()) == [
        Subscribing(at, "screen", 1, "n/#", Position("e", 0), None, None),
        Subscribed(at, "screen", 1),
        Publishing(at, "feed", 2, "n/x", b'{"a":1.5}', retain=True, key="k" * 16, echo=False),
        Acked(at, "feed", 2, Position("e", 1), duplicate=True),
        Publishing(at, "feed", 3, "n/x", b'"\xc3\xa9"'),
        Failed(at, "feed", 3, repr(tercet.RefusedError("forbidden", "no")), refused=True),
        Publishing(at, "feed", 4, "n/x", b"3"),
        Failed(at, "feed", 4, repr(tercet.OutcomeUnknownError("n/x", "k")), refused=False),
        Delivered(at, "screen", 1, "n/x", 1, "e", b'{"a":1.5}', retained=True),
        GapTold(at, "screen", 1, "n", "e", 1, 2, "overflow"),
        LiveTold(at, "screen", 1, Position("e", 2)),
        Unsubscribed(at, "screen", 1),
        Left(at, "screen"),
    ]


def test_history_is_judged() -> None:
    history = record()
    history.assert_correct(quiet=True)
    assert history.check(quiet=True) == []
    history.told("screen", 1, tercet.Live(None))
    with pytest.raises(IncorrectHistoryError, match="unsubscribed"):
        history.assert_correct()


def test_dump_is_json_lines_and_load_reads_them() -> None:
    events = list(record())
    lines = dump(events)
    assert load(lines) == events
    assert lines.splitlines()[3] == (
        b'{"event":"acked","at":1.5,"client":"feed","number":2,"position":{"epoch":"e","seq":1},"duplicate":true}'
    )
    assert lines.splitlines()[4].startswith(b'{"event":"publishing","at":1.5,"client":"feed"')
    assert '"data":"\\"é\\""'.encode() in lines.splitlines()[4]


def test_load_takes_what_is_optional_as_absent() -> None:
    text = b"""
    {"event": "publishing", "at": 1, "client": "feed", "number": 1, "topic": "n/x", "data": "{\\"bid\\": 187.20}"}

    {"event": "subscribing", "at": 1, "client": "screen", "number": 1, "filter": "n/#"}
    """
    assert load(text) == [
        Publishing(1.0, "feed", 1, "n/x", b'{"bid": 187.20}'),
        Subscribing(1.0, "screen", 1, "n/#"),
    ]
    assert load(b"") == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: "),
        ('{"event": "nothing"}', "line 2: 'event' is one of publishing, .* not 'nothing'"),
        ('{"event": ["left"]}', "line 2: 'event' is one of"),
        ("{}", "line 2: 'event' is one of"),
        ('{"event": "left", "at": 0}', "line 2: Object missing required field `client`"),
        ('{"event": "left", "at": "0", "client": "a"}', "line 2: Expected `float`, got `str` - at `\\$.at`"),
        ('{"event": "publishing", "at": 0, "client": "a", "number": 1, "topic": "x", "data": 5}', "Expected `bytes`"),
    ],
)
def test_load_says_what_is_wrong(line: str, complaint: str) -> None:
    text = '{"event": "left", "at": 0, "client": "a"}\n' + line
    with pytest.raises(ValueError, match=complaint):
        load(text.encode())


texts = st.text(max_size=8)
positions = st.none() | st.builds(Position, texts.filter(bool), st.integers(0, 2**53 - 1))
events_of_all_kinds = st.one_of(
    st.builds(Publishing, st.floats(0, 1e9), texts, st.integers(0), texts, texts.map(str.encode)),
    st.builds(Subscribing, st.floats(0, 1e9), texts, st.integers(0), texts, positions),
    st.builds(LiveTold, st.floats(0, 1e9), texts, st.integers(0), positions),
    st.builds(Left, st.floats(0, 1e9), texts),
)


@given(st.lists(events_of_all_kinds))
def test_load_reads_whatever_dump_wrote(events: list[Event]) -> None:
    assert load(dump(events)) == events

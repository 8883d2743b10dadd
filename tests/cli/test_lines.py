"""Events as lines: one line each, safe to print, and the same JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tercet
from tercet_broker.cli.lines import gap_line, json_data, json_line, raw_line, text_line


def message(raw: bytes, topic: str = "prices/AAPL", epoch: str | None = "9f1c") -> tercet.Message:
    return tercet.Message(topic, 58, epoch, 1795339200123, raw, retained=False)


def test_text_line() -> None:
    assert text_line(message(b'{"bid":187.20}')) == b'prices/AAPL {"bid":187.20}\n'


def test_json_line() -> None:
    assert json_line(message(b'{"bid":187.20}')) == (
        b'{"topic":"prices/AAPL","seq":58,"epoch":"9f1c","time":1795339200123,"data":{"bid":187.20},"retained":false}\n'
    )
    assert json.loads(json_line(message(b"1", epoch=None)))["epoch"] is None
    retained = tercet.Message("a", 1, "e", 0, b"1", retained=True)
    assert json.loads(json_line(retained))["retained"] is True


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b'"hello"', b"hello\n"),
        (b' "hello"', b"hello\n"),
        (b'"a\\r"', b"a\r\n"),
        (b'"\\u00fc\\u0000"', b"\xc3\xbc\x00\n"),
        (b'{"a":\n1}', b'{"a": 1}\n'),
        (b"12.50", b"12.50\n"),
        (b'"\\ud800"', b'"\\ud800"\n'),  # half a pair: it has no text
    ],
)
def test_raw_line(raw: bytes, line: bytes) -> None:
    assert raw_line(message(raw)) == line


def test_gap_line() -> None:
    gap = tercet.Gap("prices", "9f1c", 58, 75, 9, tercet.GapReason.OVERFLOW)
    assert json.loads(gap_line(gap)) == {
        "gap": {
            "reason": "overflow",
            "namespace": "prices",
            "epoch": "9f1c",
            "after": 58,
            "through": 75,
            "dropped": 9,
        }
    }


def test_data_keeps_its_digits_and_order() -> None:
    raw = b'{"b":1.10,"a":100000000000000000000000,"c":"\\u0041"}'
    assert json_data(raw) == raw


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=values, indent=st.sampled_from([None, 1, "\t"]), ascii_only=st.booleans())
def test_any_data_is_one_safe_line_and_means_the_same(
    value: object, indent: int | str | None, *, ascii_only: bool
) -> None:
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8")
    for line in (text_line(message(raw)).partition(b" ")[2], json_data(raw) + b"\n"):
        assert line.count(b"\n") == 1
        text = line.decode()
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202e" for c in text[:-1])
        assert json.loads(text) == value


def test_topics_cannot_reorder_the_line() -> None:
    assert text_line(message(b"1", topic="a\u202eb")) == b"a\\u202eb 1\n"
    assert b"\\u202e" in json_line(message(b"1", topic="a\u202eb"))

"""One frame, one printable line."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.cli.trace import MAX_SHOWN, Trace, describe


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (("c1", "in", "text", b'{"op":"ping"}'), 'c1 <- text 13 {"op":"ping"}'),
        (("c1", "out", "TEXT", b"{}"), "c1 -> text 2 {}"),
        (("c1", "in", "ping", b""), "c1 <- ping 0"),
        (("c1", "out", "close", b"\x03\xf4restart"), "c1 -> close 9 1012 restart"),
        (("c1", "in", "close", b""), "c1 <- close 0"),
        (("c1", "in", "close", b"\x03"), "c1 <- close 1 \\x03"),
        (("c1", "in", "text", b"a\x1b[2J\nb"), "c1 <- text 7 a\\x1b[2J\\nb"),
        (("c1", "in", "binary", b"\xff\xfe"), "c1 <- binary 2 \\xff\\xfe"),
        (("c1", "in", "text", "ü€".encode()), "c1 <- text 5 ü€"),
    ],
)
def test_describe(frame: tuple[str, str, str, bytes], line: str) -> None:
    assert describe(*frame) == line


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        ("text", '{"op":"connect","token":"%s"}'),
        ("text", '{"op":"authenticate","id":1,"token":"%s"}'),
        ("text", '{"op":"connect","tok\\u0065n":"%s"}'),
        ("text", '{"op":"connect","client":"%s'),  # a fragment
        ("continuation", '%s"}'),
        ("text", '{"op":"connect","token":"%s"'),
        ("binary", '{"op":"connect","token":"%s"}'),
        ("text", '{"op":"connect","token":"%s\xff"}'),
    ],
)
def test_describe_shows_no_token(canary: str, opcode: str, payload: str) -> None:
    line = describe("c", "in", opcode, (payload % canary).encode("latin-1"))
    assert canary not in line
    assert "may hold a token" in line


def test_describe_cuts_long_payloads() -> None:
    assert describe("c", "in", "text", b"x" * 1500) == f"c <- text 1500 {'x' * MAX_SHOWN}… and 500 more bytes"


def test_describe_cuts_between_characters() -> None:
    line = describe("c", "in", "text", b"x" + "€".encode() * 400)
    assert line == "c <- text 1201 x" + "€" * 333 + "… and 201 more bytes"


@given(st.sampled_from(["text", "binary", "close", "ping"]), st.binary(max_size=1200))
def test_describe_is_always_one_printable_line(opcode: str, payload: bytes) -> None:
    assert describe("c", "in", opcode, payload).isprintable()


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    writes = 0

    def write(self, _: str) -> int:
        self.writes += 1
        raise BrokenPipeError


def test_trace_stops_quietly_when_its_stream_breaks() -> None:
    stream = Broken()
    trace = Trace(stream)
    trace("c", "in", "text", b"1")
    trace("c", "in", "text", b"2")
    assert stream.writes == 1

"""Frames that are built by hand, taken apart by wsproto, which is somebody else's reading of RFC 6455."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage

from tercet_protocol import (
    CloseCode,
    Opcode,
    encode_close_frame,
    encode_frame,
    encode_text_frame,
    is_sendable_close_code,
)

# Around the places where the length takes another form.
lengths = st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000]) | st.integers(0, 300)


def decode(frame: bytes) -> list[Event]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(frame)
    return list(client.events())


def joined(events: list[Event]) -> bytes | str:
    """Join a message that wsproto hands out in pieces."""
    messages = [event for event in events if isinstance(event, Message)]
    assert len(messages) == len(events)
    assert [event.message_finished for event in messages] == [False] * (len(messages) - 1) + [True]
    if all(isinstance(event, TextMessage) for event in messages):
        return "".join(str(event.data) for event in messages)
    return b"".join(bytes(event.data) for event in messages if isinstance(event, BytesMessage))


@given(lengths, st.sampled_from(["x", "ü", "\U0001f600"]))
def test_text_frames_of_any_length(length: int, character: str) -> None:
    text = character * length
    assert joined(decode(encode_text_frame(text.encode()))) == text


@given(lengths)
def test_binary_frames_of_any_length(length: int) -> None:
    assert joined(decode(encode_frame(Opcode.BINARY, b"\xff" * length))) == b"\xff" * length


@given(st.lists(st.text(max_size=200), max_size=5))
def test_frames_follow_each_other(texts: list[str]) -> None:
    events = decode(b"".join(encode_text_frame(text.encode()) for text in texts))
    assert [event.data for event in events if isinstance(event, TextMessage)] == texts


@given(st.binary(max_size=125))
def test_ping_and_pong_frames(payload: bytes) -> None:
    assert decode(encode_frame(Opcode.PING, payload)) == [Ping(payload)]
    assert decode(encode_frame(Opcode.PONG, payload)) == [Pong(payload)]


@given(st.sampled_from([code for code in CloseCode if is_sendable_close_code(code)]), st.text())
def test_close_frames_fit_and_cut_their_reason_at_a_character(code: CloseCode, reason: str) -> None:
    frame = encode_close_frame(code, reason)
    assert len(frame) <= 2 + 125
    (event,) = decode(frame)
    assert isinstance(event, CloseConnection)
    assert event.code == code
    told = event.reason or ""
    assert reason.startswith(told)
    if told != reason:
        assert len((told + reason[len(told)]).encode()) > 123


def test_close_frame_without_reason_is_four_bytes() -> None:
    assert encode_close_frame(CloseCode.NORMAL) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("code", "sendable"),
    [(999, False), (1000, True), (1003, True), (1004, False), (1005, False), (1006, False), (1007, True)]
    + [(1014, True), (1015, False), (1016, False), (2999, False), (3000, True), (4999, True), (5000, False)]
    + [(0, False), (65535, False)],
)
def test_sendable_close_codes(code: int, sendable: bool) -> None:
    """RFC 6455, 7.4, and the later registrations."""
    assert is_sendable_close_code(code) is sendable


def test_every_code_of_ours_but_the_two_reserved_ones_is_sendable() -> None:
    reserved = {CloseCode.NO_STATUS, CloseCode.ABNORMAL}
    assert {code for code in CloseCode if not is_sendable_close_code(code)} == reserved

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from tercet_broker.runtime.frames import Frame, FrameError, FrameReader
from tercet_protocol import CloseCode, Opcode

LIMIT = 10_000
TEXT, BINARY, MORE, CLOSE, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION, Opcode.CLOSE, Opcode.PING


def read(data: bytes, cuts: list[int] | None = None, *, limit: int = LIMIT) -> list[Frame]:
    """Return the frames in `data`, which comes in pieces."""
    reader = FrameReader(limit)
    frames = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    for a, b in itertools.pairwise(edges):
        reader.feed(data[a:b])
        while (frame := reader.next_frame()) is not None:
            frames.append(frame)
    return frames


def _exhaust(reader: FrameReader) -> None:
    while reader.next_frame() is not None:
        pass


def refused(data: bytes, *, limit: int = LIMIT) -> CloseCode:
    """Return the code that the last byte is closed with, and no byte before it."""
    reader = FrameReader(limit)
    for byte in data[:-1]:
        reader.feed(bytes((byte,)))
        _exhaust(reader)
    reader.feed(data[-1:])
    with pytest.raises(FrameError) as caught:
        _exhaust(reader)
    return caught.value.code


# Everything that is legal

MESSAGES: st.SearchStrategy[list[Event]] = st.one_of(
    st.text(max_size=300).map(lambda text: [TextMessage(text)]),
    st.binary(max_size=300).map(lambda data: [BytesMessage(data)]),
    st.sampled_from([0, 125, 126, 65535, 65536]).map(lambda size: [BytesMessage(bytes(size))]),
    st.binary(max_size=125).map(lambda payload: [Ping(payload)]),
    st.binary(max_size=125).map(lambda payload: [Pong(payload)]),
    st.lists(st.text(max_size=20), min_size=2, max_size=4).map(
        lambda parts: [TextMessage(part, message_finished=i == len(parts) - 1) for i, part in enumerate(parts)]
    ),
    st.lists(st.binary(max_size=20), min_size=2, max_size=4).map(
        lambda parts: [
            event
            for i, part in enumerate(parts)
            for event in ([Ping(b"between")] if i else []) + [BytesMessage(part, message_finished=i == len(parts) - 1)]
        ]
    ),
)
ENDS: st.SearchStrategy[list[Event]] = st.sampled_from(
    [
        [],
        [CloseConnection(1000)],
        [CloseConnection(1000, "bye")],
        [CloseConnection(4999, "ü" * 61)],
        [CloseConnection(1005)],
    ]
)


@given(st.lists(MESSAGES, max_size=6), ENDS, st.lists(st.integers(0, 2**20), max_size=20))
def test_legal_frames_come_out_whole_however_they_are_cut(
    messages: list[list[Event]], end: list[Event], cuts: list[int]
) -> None:
    """What wsproto's client side writes is what comes out."""
    producer = Connection(ConnectionType.CLIENT)
    events = [event for message in messages for event in message] + end
    written = [producer.send(event) for event in events]
    frames = read(b"".join(written), cuts, limit=2**20)
    assert [frame.raw for frame in frames] == written
    within = False
    for event, frame in zip(events, frames, strict=True):
        if isinstance(event, TextMessage | BytesMessage):
            data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
            kind = TEXT if isinstance(event, TextMessage) else BINARY
            assert (frame.opcode, frame.payload) == (MORE if within else kind, data)
            assert frame.is_last == event.message_finished
            assert frame.is_whole == (event.message_finished and not within)
            within = not event.message_finished
        else:
            assert not frame.is_whole
            assert not frame.is_last
            if isinstance(event, Ping | Pong):
                assert frame.payload == event.payload


# The table at the top of frames.py. Each is refused at its very last byte here, and not before.


def length64(size: int) -> bytes:
    return b"\x82\xff" + size.to_bytes(8, "big")


VIOLATIONS: dict[str, tuple[int, bytes]] = {
    "reserved bit 1": (1002, b"\xc1\x80"),
    "reserved bit 2": (1002, b"\xa1\x80"),
    "reserved bit 3": (1002, b"\x91\x80"),
    **{f"opcode {code}": (1002, bytes((0x80 | code, 0x80))) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "unmasked": (1002, b"\x81\x01"),
    "fragmented ping": (1002, b"\x09\x80"),
    "fragmented close": (1002, b"\x08\x80"),
    "long ping": (1002, b"\x89\xfe"),
    "very long ping": (1002, b"\x89\xff"),
    "16-bit length of 125": (1002, b"\x82\xfe\x00\x7d"),
    "64-bit length of 65535": (1002, length64(65535)),
    "length of 2**63": (1002, length64(2**63)),
    "length of 2**62": (1009, length64(2**62)),
    "length over the limit": (1009, length64(65536)),
    "16-bit length over the limit": (1009, b"\x82\xfe" + (LIMIT + 1).to_bytes(2, "big")),
    "continuation of nothing": (1002, b"\x80\x80"),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_violation_is_refused_by_its_header(case: str) -> None:
    """Before the mask, let alone the body, has arrived."""
    code, data = VIOLATIONS[case]
    assert refused(data) == code


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        *((1002, struct.pack("!H", bad)) for bad in (0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, 65535)),
        (1002, b"\x03"),
        (1007, b"\x03\xe8\xff"),
        (1007, b"\x03\xe8\xed\xa0\x80"),
    ],
)
def test_bad_close_is_refused(tools: Any, code: int, payload: bytes) -> None:
    assert refused(tools.client_frame(CLOSE, payload)) == code


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999])
def test_good_close_passes(tools: Any, code: int) -> None:
    (frame,) = read(tools.client_frame(CLOSE, struct.pack("!H", code) + b"why"))
    assert frame.opcode is CLOSE


def test_message_within_a_message_is_refused(tools: Any) -> None:
    frame = tools.client_frame
    assert refused(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")[:2]) == 1002
    assert refused(frame(TEXT, b"a", fin=False) + frame(BINARY, b"b")[:2]) == 1002
    assert refused(frame(TEXT, b"a", fin=False) + frame(MORE, b"b") + frame(MORE, b"c")[:2]) == 1002


def test_size_of_a_message_is_that_of_all_its_fragments(tools: Any) -> None:
    frame = tools.client_frame
    first = frame(BINARY, bytes(LIMIT - 200), fin=False)
    assert len(read(first + frame(MORE, bytes(200)))) == 2
    assert refused(first + frame(MORE, bytes(201))[:4]) == 1009
    again = first + frame(MORE, bytes(200)) + frame(BINARY, bytes(LIMIT))
    assert len(read(again)) == 3


def test_what_has_arrived_is_of_the_message_that_has_not_ended(tools: Any) -> None:
    """Empty fragments begin one as well; a control frame by itself is none, nor one in the middle once it is whole."""
    reader = FrameReader(LIMIT)
    for data, arrived in (
        (b"", None),
        (tools.client_frame(TEXT, b"abc")[:4], 4),
        (tools.client_frame(TEXT, b"abc")[4:], None),
        (tools.client_frame(TEXT, b"", fin=False), 0),
        (tools.client_frame(MORE, b"abc", fin=False), 3),
        (tools.client_frame(PING)[:1], 4),
        (tools.client_frame(PING)[1:], 3),
        (tools.client_frame(MORE, b"d"), None),
        (tools.client_frame(PING)[:5], None),
    ):
        reader.feed(data)
        _exhaust(reader)
        assert reader.arrived == arrived


@pytest.mark.parametrize("size", [0, 1, 15])
def test_very_many_tiny_fragments_are_refused(tools: Any, size: int) -> None:
    frame = tools.client_frame
    data = frame(BINARY, bytes(size), fin=False) + frame(MORE, bytes(size), fin=False) * 255
    assert len(read(data)) == 256
    assert refused(data + frame(MORE, bytes(size), fin=False)[:2]) == 1008
    assert len(read(data + frame(MORE, bytes(size)))) == 257


def test_many_fragments_of_a_fair_size_pass(tools: Any) -> None:
    frame = tools.client_frame
    data = frame(BINARY, bytes(16), fin=False) + frame(MORE, bytes(16), fin=False) * 500 + frame(MORE)
    assert len(read(data)) == 502


@pytest.mark.parametrize("payload", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"])
def test_text_that_is_not_utf8_is_refused(tools: Any, payload: bytes) -> None:
    assert refused(tools.client_frame(TEXT, payload)) == 1007
    assert len(read(tools.client_frame(BINARY, payload))) == 1


@given(st.text(min_size=1, max_size=30), st.data())
def test_characters_may_be_cut_by_fragments(text: str, data: st.DataObject) -> None:
    import sys  # noqa: PLC0415

    frame = sys.modules["tests.runtime.conftest"].client_frame
    payload = text.encode()
    cut = data.draw(st.integers(0, len(payload)))
    assert len(read(frame(TEXT, payload[:cut], fin=False) + frame(MORE, payload[cut:]))) == 2


def test_bad_text_is_refused_with_the_fragment_that_shows_it(tools: Any) -> None:
    frame = tools.client_frame
    assert refused(frame(TEXT, b"\xce\xba\xe1", fin=False) + frame(MORE, b"\xff", fin=False)) == 1007
    assert refused(frame(TEXT, b"\xce", fin=False) + frame(MORE, b"")) == 1007


def test_large_frame_byte_by_byte_is_not_quadratic(tools: Any) -> None:
    """The work of a step does not grow with what is buffered: nothing is copied before the frame is whole."""
    import tracemalloc  # noqa: PLC0415

    size = 200_000
    data = tools.client_frame(BINARY, bytes(size))
    reader = FrameReader(size)
    reader.feed(data[:-1000])
    assert reader.next_frame() is None
    tracemalloc.start()
    try:
        for byte in data[-1000:-1]:
            reader.feed(bytes((byte,)))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            assert reader.next_frame() is None
            assert tracemalloc.get_traced_memory()[1] - before < 10_000
    finally:
        tracemalloc.stop()
    reader.feed(data[-1:])
    frame = reader.next_frame()
    assert frame is not None
    assert len(frame.payload) == size


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_a_frame_error(data: bytes) -> None:
    try:
        frames = read(data)
    except FrameError as error:
        assert error.code in {CloseCode(code) for code in (1002, 1007, 1008, 1009)}
    else:
        assert b"".join(frame.raw for frame in frames) == data[: sum(len(frame.raw) for frame in frames)]

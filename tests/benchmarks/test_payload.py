from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.payload import MARKER, Counter, NumberReader, make_payload


def stream(numbers: range) -> bytes:
    return b"".join(b'{"data":"' + make_payload(40, number) + b'"}~~' for number in numbers)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def test_payload_has_its_size_and_one_marker() -> None:
    for size in (18, 128, 4096):
        payload = make_payload(size, 7)
        assert (len(payload), payload.count(MARKER)) == (size, 1)


@given(st.lists(st.integers(0, 10_000)))
def test_counter_counts_every_marker_however_the_stream_is_cut(cuts: list[int]) -> None:
    counter, found, buffer = Counter(), 0, bytearray(10_000)
    for piece in pieces(stream(range(20)), cuts):
        buffer[: len(piece)] = piece
        found += counter.count(buffer, len(piece))
    assert found == 20


@given(st.lists(st.integers(0, 10_000)))
def test_reader_reads_every_number_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader, found, buffer = NumberReader(), [], bytearray(10_000)
    for piece in pieces(stream(range(20)), cuts):
        buffer[: len(piece)] = piece
        found += reader.read(buffer, len(piece))
    assert found == list(range(20))

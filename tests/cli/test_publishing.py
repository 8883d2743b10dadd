"""`tercet publish --lines`: every byte arrives, in order, or it is told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tercet
from tercet_broker.cli.connection import Endpoint
from tercet_broker.cli.exits import Failure, InputFailure
from tercet_broker.cli.progress import no_progress
from tercet_broker.cli.publishing import KEY_SECONDS, KEYS, KeyBudget, LineSplitter, Target, publish_lines

TARGET = Target(Endpoint("ws://unused"), "logs/web", retain=False)


class FakeClient:
    """Records what is published; refuses the message number `refuse`."""

    def __init__(self, refuse: int | None = None) -> None:
        self.sent: list[bytes] = []
        self.pipelines: list[FakePipeline] = []
        self._refuse = refuse

    def pipeline(self, window: int = 256, *, keyed: bool = True) -> FakePipeline:
        assert window > 0
        self.pipelines.append(FakePipeline(self, keyed))
        return self.pipelines[-1]

    def take(self, data: tercet.Raw) -> None:
        if len(self.sent) + 1 == self._refuse:
            raise tercet.RefusedError("forbidden", "may not\x1b publish")
        self.sent.append(bytes(data))


class FakePipeline:
    """Hands what is published to the client."""

    def __init__(self, client: FakeClient, keyed: bool) -> None:
        self._client = client
        self.keyed = keyed
        self.published = 0
        self.left_by: object = "not left"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.left_by = kind

    async def publish(self, topic: str, data: tercet.Raw, *, retain: bool = False) -> None:
        assert topic == TARGET.topic
        assert retain is TARGET.retain
        self._client.take(data)
        self.published += 1


async def publish(chunks: Iterable[bytes], client: FakeClient, *, as_json: bool = False) -> list[bytes]:
    """Publish what `chunks` bring and return what was sent."""
    left = iter(chunks)

    async def read() -> bytes:
        return next(left, b"")

    await publish_lines(client, TARGET, read, as_json=as_json, advance=no_progress)  # type: ignore[arg-type] # a fake
    return client.sent


@given(st.binary(), st.lists(st.integers(1, 10)))
def test_line_splitter_keeps_every_byte(content: bytes, sizes: list[int]) -> None:
    """However the input is cut into chunks."""
    splitter = LineSplitter()
    lines = []
    rest = content
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        lines += list(splitter.feed(piece))
    lines += [*splitter.feed(rest), *splitter.finish()]
    assert b"\n".join(lines) + (b"\n" if content.endswith(b"\n") else b"") == content
    assert lines == content.removesuffix(b"\n").split(b"\n") or not content
    assert splitter.count == len(lines)


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\n", ["a", ""]),
        (b" a\t\r\n\x00\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8b\n", [" a\t\r", "\x00\x0b\x0c\x1c\x85\u2028b"]),
        ("ü€😀\n".encode(), ["ü€😀"]),
        (b"\xef\xbb\xbfa\n", ["\ufeffa"]),
    ],
)
async def test_lines_are_json_strings_of_all_their_bytes(content: bytes, messages: list[str]) -> None:
    sent = await publish([content[i : i + 1] for i in range(len(content))], FakeClient())
    assert [json.loads(data) for data in sent] == messages


async def test_json_lines_go_through_as_they_are() -> None:
    sent = await publish([b'{"b": 1.50}\n', b" 3\r\n", b'"x"'], FakeClient(), as_json=True)
    assert sent == [b'{"b": 1.50}', b"3", b'"x"']  # space around a value is no part of it


async def test_line_that_is_not_utf8_is_named_and_those_before_it_published() -> None:
    client = FakeClient()
    with pytest.raises(InputFailure) as caught:
        await publish([b"one\ntwo\nthr\xffee\nfour\n"], client)
    assert caught.value.message == (
        "line 3 of standard input is not UTF-8: byte 0xff at its byte 4; the 2 before it were published"
    )
    assert client.sent == [b'"one"', b'"two"']
    assert {each.left_by for each in client.pipelines} == {None}, "they must end in peace, or are not waited for"


async def test_line_that_is_no_json_is_named() -> None:
    for content in (b"x\n", b"\n", b"1 2\n", b'"\xff"\n'):
        with pytest.raises(InputFailure, match=r"line 1 of standard input is not .*; nothing was published"):
            await publish([content], FakeClient(), as_json=True)


async def test_character_split_between_chunks_is_whole() -> None:
    assert await publish([b"\xe2\x82", b"\xac\n"], FakeClient()) == ['"€"'.encode()]


async def test_line_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet_broker.cli.publishing.MAX_LINE", 1000)
    with pytest.raises(InputFailure, match="line 2 of standard input is longer than 1000 bytes"):
        await publish([b"a\n", *[b"x" * 600] * 2], FakeClient())


async def test_refusal_tells_how_many_are_published() -> None:
    with pytest.raises(Failure) as caught:
        await publish([b"a\nb\nc\n"], FakeClient(refuse=3))
    assert caught.value.exit_code == 1
    assert caught.value.message == "forbidden: may not\\x1b publish (2 lines are published)"


async def test_lines_are_sent_as_they_arrive() -> None:
    """A pipe without an end streams: a line does not wait for the next chunk."""
    client = FakeClient()
    seen: list[int] = []

    def chunks() -> Iterable[bytes]:
        for number in range(3):
            seen.append(len(client.sent))
            yield b"%d\n" % number

    await publish(chunks(), client)
    assert seen == [0, 1, 2]


async def test_large_input_does_without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker remembers 100,000 of a namespace; then it refuses messages that have one."""
    monkeypatch.setattr("tercet_broker.cli.publishing.KEYS", 3)
    client = FakeClient()
    sent = await publish([b"1\n2\n3\n4\n5\n"], client)
    assert sent == [b'"%d"' % number for number in range(1, 6)]
    assert {each.keyed: each.published for each in client.pipelines} == {True: 3, False: 2}


def test_key_budget_is_for_a_time() -> None:
    budget = KeyBudget()
    assert [budget.take(0.0) for _ in range(KEYS + 2)] == [True] * KEYS + [False] * 2
    assert not budget.take(KEY_SECONDS - 1)
    assert budget.take(KEY_SECONDS)

"""Standard output: nothing lost, at once when idle, in large pieces when not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from tercet_broker.cli.output import MAX_WAITING, open_output


class Pipe:
    """A pipe; `reader` and `writer` are its descriptors."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    async def read(self) -> bytes:
        """Wait for what is there."""
        return await trio.to_thread.run_sync(os.read, self.reader, 1 << 20)

    def close(self) -> None:
        for descriptor in (self.reader, self.writer):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


async def test_output_writes_at_once_when_idle(pipe: Pipe) -> None:
    async with open_output(pipe.writer) as output:
        for line in (b"one\n", b"two\n"):
            await output.write(line)
            assert await pipe.read() == line  # before the block is left


async def test_output_loses_nothing_on_leaving(pipe: Pipe) -> None:
    lines = [b"%d\n" % number for number in range(100_000)]
    read = bytearray()

    async def reader() -> None:
        while piece := await pipe.read():
            read.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        async with open_output(pipe.writer) as output:
            for line in lines:
                await output.write(line)
        os.close(pipe.writer)
    assert bytes(read) == b"".join(lines)


async def test_output_loses_nothing_after_an_error(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="broke"):  # noqa: PT012 - the block is what is tested
        async with open_output(pipe.writer) as output:
            await output.write(b"last words\n")
            raise ValueError("broke")
    assert await pipe.read() == b"last words\n"


async def test_output_waits_for_a_slow_reader(pipe: Pipe) -> None:
    """What waits is bounded; the writer goes on once someone reads."""
    line = b"x" * 65_536
    total = 0
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            nonlocal total
            async with open_output(pipe.writer) as output:
                for _ in range(100):
                    await output.write(line)
                    total += len(line)
            os.close(pipe.writer)

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        # In the pipe, in the writer's hands, waiting.
        assert total <= 2 * MAX_WAITING + 3 * len(line) + 65_536
        size = 0
        while piece := await pipe.read():
            size += len(piece)
    assert size == 100 * len(line)


async def test_output_raises_when_nobody_reads(pipe: Pipe) -> None:
    os.close(pipe.reader)
    with pytest.RaisesGroup(BrokenPipeError):
        async with open_output(pipe.writer) as output:
            await output.write(b"lost\n")
            await trio.sleep_forever()


async def test_output_can_be_cancelled_while_the_pipe_is_full(pipe: Pipe) -> None:
    with trio.CancelScope() as scope:
        async with open_output(pipe.writer) as output:
            await output.write(b"x" * 300_000)  # a pipe takes 64 KiB
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    # The thread that was left behind still writes. Let it end before the
    # descriptor is closed: the next test's pipe may get the same number.
    left = 300_000
    while left:
        left -= len(await pipe.read())


async def test_output_to_a_descriptor_that_does_not_block(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            async with open_output(pipe.writer) as output:
                await output.write(b"x" * 300_000)
            os.close(pipe.writer)

        nursery.start_soon(write)
        size = 0
        while piece := await pipe.read():
            size += len(piece)
    assert size == 300_000

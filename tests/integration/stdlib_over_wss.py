"""Send the source of Python's standard library through a broker, line by line, and see it arrive whole.

    python tests/integration/stdlib_over_wss.py            # a part: PACKAGES
    python tests/integration/stdlib_over_wss.py --all      # every .py file
    python tests/integration/stdlib_over_wss.py json email # these

`tercet publish --lines` sends it over wss to two `tercet subscribe`. One of
them is killed half way and started again from the position it has stored.
Both must end with exactly the input, in order. Prints what was sent and how
long it took; the exit status is 0 if all is as it should be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import sysconfig
import tempfile
import tokenize
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
from attrs import define, field, frozen

LIBRARY = Path(sysconfig.get_path("stdlib"))
PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "email",
    "encodings",
    "html",
    "http",
    "importlib",
    "json",
    "logging",
)
TERCET = str(Path(sys.executable).parent / "tercet")
PATIENCE = 600.0  # seconds for everything
TOPIC = "library/source"
CONFIG = """
[[listener]]
bind = "127.0.0.1:0"
tls = {{ certificate = "cert.pem", key = "key.pem" }}

[namespace.library]
history = {{ messages = {messages}, bytes = {bytes} }}

[logging]
level = "warning"
"""


class LostError(Exception):
    """What arrived is not what was sent."""


@frozen
class Source:
    """What is sent.

    Attributes:
        path: a file with all of it, in UTF-8.
        lines: how many.
        bytes: how many, the newlines included.
        digest: SHA-256.
        files: how many it was made of.
    """

    path: Path
    lines: int
    bytes: int
    digest: str
    files: int


def find_files(packages: list[str] | None) -> Iterator[Path]:
    """Yield the library's files, or those of some of its packages, always in the same order."""
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY).parts
        if not {"site-packages", "dist-packages"} & set(parts) and (packages is None or parts[0] in packages):
            yield path


def collect(folder: Path, packages: list[str] | None) -> Source:
    """Write all source text into one file. What Python itself cannot decode (a few of its tests' files) is left out."""
    target, count = folder / "source.txt", 0
    with target.open("wb") as out:
        for path in find_files(packages):
            try:
                with tokenize.open(path) as file:
                    text = file.read()
            except (SyntaxError, UnicodeDecodeError):
                continue
            count += 1
            out.write(text.encode() if text.endswith("\n") or not text else text.encode() + b"\n")
    content = target.read_bytes()
    return Source(target, content.count(b"\n"), len(content), hashlib.sha256(content).hexdigest(), count)


@define(eq=False)
class Reader:
    """What a `tercet subscribe --json` has written so far, read as it grows.

    Attributes:
        path: its output.
        position: EPOCH:SEQ of the last whole line.
        lines: how many whole lines.
        digest: of the text that they carry.
    """

    path: Path
    position: str
    lines: int = 0
    digest: hashlib._Hash = field(factory=hashlib.sha256, repr=False)
    _offset: int = 0

    def read_on(self) -> int:
        """Take what has been written since; return how many lines there are now."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(json.loads(line))
                self._offset += len(line)
        return self.lines

    def _take(self, message: dict[str, object]) -> None:
        if "gap" in message:
            raise LostError(f"a gap after line {self.lines}: {message}")
        self.digest.update(f"{message['data']}\n".encode())
        self.lines += 1
        self.position = f"{message['epoch']}:{message['seq']}"

    def forget_rest(self) -> None:
        """Cut off what a killed process had begun to write."""
        with self.path.open("r+b") as file:
            file.truncate(self._offset)


@define(eq=False)
class Stage:
    """Where it takes place.

    Attributes:
        folder: for all files.
        url: of the broker.
    """

    folder: Path
    url: str

    @property
    def reach(self) -> list[str]:
        """The options that every client needs."""
        return ["--url", self.url, "--ca", str(self.folder / "ca.pem")]

    async def begin(self) -> str:
        """Publish something, and return its position: everything comes after that."""
        done = await trio.run_process([TERCET, "publish", *self.reach, TOPIC, "0"], capture_stdout=True)
        return done.stdout.decode().strip()

    async def publish(self, source: Source) -> None:
        with source.path.open("rb") as file:
            await trio.run_process([TERCET, "publish", *self.reach, TOPIC, "--lines"], stdin=file)

    async def subscribe(self, output: Path, *options: str, task_status: trio.TaskStatus[trio.Process]) -> None:
        """Run a subscriber until it has what it wants, or is killed."""
        with output.open("ab") as file:
            command = [TERCET, "subscribe", *self.reach, "library/#", *options]
            await trio.run_process(command, stdout=file, check=False, task_status=task_status)

    async def subscribe_whole(self, source: Source, since: str) -> None:
        """One that is left in peace."""
        output = self.folder / "whole.txt"
        with output.open("wb") as file:
            options = ["--since", since, "--raw", "--count", str(source.lines)]
            await trio.run_process([TERCET, "subscribe", *self.reach, "library/#", *options], stdout=file)
        digest = hashlib.sha256(output.read_bytes()).hexdigest()
        if digest != source.digest:
            raise LostError(f"the subscriber in peace got something else: {output}")

    async def subscribe_in_two(self, source: Source, since: str) -> int:
        """One that is killed half way and resumes; return how many lines came before that."""
        reader = Reader(self.folder / "halves.jsonl", since)
        async with trio.open_nursery() as nursery:
            subscribe = partial(self.subscribe, reader.path, "--json")
            process = await nursery.start(partial(subscribe, "--since", since))
            while reader.read_on() < source.lines // 2:  # noqa: ASYNC110 - a file that grows announces nothing
                await trio.sleep(0.02)
            process.kill()
            await process.wait()
        first = reader.read_on()
        reader.forget_rest()
        if first == source.lines:
            raise LostError("all had arrived before the kill: the input is too short for this")
        rest = source.lines - first
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(subscribe, "--since", reader.position, "--count", str(rest)))
        reader.read_on()
        if (reader.lines, reader.digest.hexdigest()) != (source.lines, source.digest):
            raise LostError(f"the subscriber in two halves got {reader.lines} of {source.lines} lines: {reader.path}")
        return first


@asynccontextmanager
async def open_stage(folder: Path, source: Source) -> AsyncIterator[Stage]:
    """Run a broker that keeps all of it."""
    await trio.run_process([TERCET, "certificate", str(folder)], capture_stdout=True, capture_stderr=True)
    config = folder / "tercet.toml"
    # A message counts with its topic, and a quoted line may be longer than it was.
    config.write_text(CONFIG.format(messages=source.lines + 10, bytes=2 * source.bytes + 100 * source.lines))
    async with trio.open_nursery() as nursery:
        broker: trio.Process = await nursery.start(
            partial(trio.run_process, [TERCET, "serve", "--config", str(config)], stdout=subprocess.PIPE, check=False)
        )
        assert broker.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            data = await broker.stdout.receive_some()
            if not data:
                raise RuntimeError("the broker ended without a word")
            line += data
        yield Stage(folder, line.decode().split()[-1])
        broker.terminate()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(packages: list[str] | None) -> None:
    """Do all of it in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = collect(folder, packages)
        say(f"sending {source.lines} lines, {source.bytes / 1e6:.1f} MB, of {source.files} files")
        with trio.fail_after(PATIENCE):
            async with open_stage(folder, source) as stage:
                position = await stage.begin()
                began = trio.current_time()
                times: dict[str, float] = {}
                firsts: list[int] = []

                async def publish() -> None:
                    await stage.publish(source)
                    times["published"] = trio.current_time() - began

                async def in_two() -> None:
                    firsts.append(await stage.subscribe_in_two(source, position))
                    times["in two"] = trio.current_time() - began

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(in_two)
                    nursery.start_soon(publish)
                    await stage.subscribe_whole(source, position)
                    times["in peace"] = trio.current_time() - began
        say(f"both arrived whole: SHA-256 {source.digest}")
        say(f"killed after {firsts[0]} lines")
        for what, seconds in times.items():
            lines, megabytes = source.lines / seconds, source.bytes / seconds / 1e6
            say(f"{what:>9}: {seconds:6.1f} s, {lines:8.0f} lines/s, {megabytes:.2f} MB/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send Python's standard library through a broker.")
    parser.add_argument("packages", nargs="*", default=list(PACKAGES), help="only these (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="every .py file")
    arguments = parser.parse_args()
    trio.run(main, None if arguments.all else arguments.packages)

"""What stands at both ends of the scale (the naive broker, a bare connection, the floor), and in between."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from attrs import field, frozen

from .dialect import Dialect, Step
from .frames import TEXT, server_frame, upgrade_request
from .peer import Setting
from .process import BrokerProcess, free_port, run_broker
from .tercet import TercetDialect


@frozen
class FloorDialect:
    """A publish is what a subscriber of Tercet would get; one letter makes a subscriber."""

    def greet(self, number: int) -> list[Step]:  # noqa: ARG002 - clients have no names here
        return []

    def subscribe(self, filters: Sequence[str]) -> Step:  # noqa: ARG002 - there is one topic
        return Step(b"S", b"+")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:  # noqa: ARG002
        message = b'{"op":"message","topic":"%s","seq":100000,"time":1795339200123,"data":"%s"}'
        return server_frame(TEXT, message % (topic.encode(), payload))


@frozen
class BareDialect:
    """A WebSocket, and nothing to be said over it."""

    def greet(self, number: int) -> list[Step]:  # noqa: ARG002 - clients have no names here
        return [Step(upgrade_request("127.0.0.1"), b"\r\n\r\n")]

    def subscribe(self, filters: Sequence[str]) -> Step:  # noqa: ARG002 - there is nothing to subscribe to
        return Step(b"", b"")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:
        raise NotImplementedError("nobody listens")


@frozen
class Baseline:
    """A program of this folder, run by this Python."""

    name: str
    dialect: Dialect = field(repr=False)
    script: str = field(repr=False)
    arguments: tuple[str, ...] = ()
    missing: str | None = None

    def version(self) -> str:
        if self.name == "floor":
            return f"Python {platform.python_version()}"
        if self.arguments:
            return f"tercet {metadata.version('tercet')} without {' and '.join(self.arguments)}"
        return f"trio-websocket {metadata.version('trio-websocket')}, trio {metadata.version('trio')}"

    @contextmanager
    def run(self, setting: Setting) -> Iterator[BrokerProcess]:
        port = free_port()
        command = [sys.executable, "-P", str(Path(__file__).with_name(self.script)), str(port), *self.arguments]
        if setting.certificate is not None:
            command += [str(setting.certificate.chain), str(setting.certificate.key)]
        with run_broker(self.name, command, ("127.0.0.1", port), setting.folder, setting.cores) as process:
            yield process


NAIVE = Baseline("naive", TercetDialect(subprotocol=None), "naive.py")
BARE = Baseline("bare", BareDialect(), "bare.py")
FLOOR = Baseline("floor", FloorDialect(), "floor.py")
NO_LANE = Baseline("no lane", TercetDialect(), "without.py", ("lane",))
NO_RUNS = Baseline("no runs", TercetDialect(), "without.py", ("runs",))
NO_PASSING = Baseline("no passing", TercetDialect(), "without.py", ("passing",))

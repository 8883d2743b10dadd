"""Tercet, as `tercet serve` runs it: options at their defaults."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from attrs import field, frozen

from .dialect import Dialect, Step
from .frames import TEXT, client_frame, upgrade_request
from .peer import Setting
from .process import BrokerProcess, free_port, run_broker

_HEAD_END = b"\r\n\r\n"


def _request(**fields: object) -> bytes:
    return client_frame(TEXT, json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode())


@frozen
class TercetDialect:
    """protocol.md, version 1."""

    subprotocol: str | None = "tercet.v1.json"

    def greet(self, number: int) -> list[Step]:  # noqa: ARG002 - clients have no names here
        return [
            Step(upgrade_request("127.0.0.1", self.subprotocol), _HEAD_END),
            Step(_request(op="connect"), b'"connected"'),
        ]

    def subscribe(self, filters: Sequence[str]) -> Step:
        frames = [_request(op="subscribe", id=number, filter=one) for number, one in enumerate(filters, 1)]
        return Step(b"".join(frames), b'"subscribed"', len(filters))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, ack: bool = False) -> bytes:
        fields: dict[str, object] = {"op": "publish"}
        if ack:
            fields["id"] = 1
        fields |= {"topic": topic, "data": payload.decode()}
        if retain:
            fields["retain"] = True
        return _request(**fields)


@frozen
class Tercet:
    """The broker that is installed, or that of another checkout."""

    name: str = "tercet"
    checkout: Path | None = None
    dialect: Dialect = field(factory=TercetDialect)

    @property
    def missing(self) -> str | None:
        if self.checkout is not None and not (self.checkout / "broker" / "tercet_broker").is_dir():
            return f"there is no broker in {self.checkout}"
        return None

    def version(self) -> str:
        if self.checkout is None:
            return f"tercet {metadata.version('tercet')}"
        return f"{self.name}: tercet of {self.checkout.name}"

    @contextmanager
    def run(self, setting: Setting) -> Iterator[BrokerProcess]:
        port = free_port()
        lines = ["[[listener]]", f'bind = "127.0.0.1:{port}"']
        if setting.certificate is not None:
            chain, key = (json.dumps(str(path)) for path in (setting.certificate.chain, setting.certificate.key))
            lines.append(f"tls = {{ certificate = {chain}, key = {key} }}")
        if not setting.heartbeats:
            lines += ["[timeouts]", "heartbeat = 3600"]
        if setting.history:
            lines += ["[namespace.bench]", "history = {}"]
        config = setting.folder / "tercet.toml"
        config.write_text("\n".join([*lines, ""]))
        command = [sys.executable, "-m", "tercet_broker", "serve", "--config", str(config)]
        variables = {}
        if self.checkout is not None:
            # Found before what is installed, editable or not.
            variables["PYTHONPATH"] = str(self.checkout / "broker")
        address = ("127.0.0.1", port)
        with run_broker(self.name, command, address, setting.folder, setting.cores, variables) as process:
            yield process

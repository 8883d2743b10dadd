"""A peer: one of the brokers that are measured side by side."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from attrs import frozen

from .cores import Cores
from .dialect import Dialect
from .process import BrokerProcess


@frozen
class Certificate:
    """For measuring over TLS: PEM files."""

    authority: Path
    chain: Path
    key: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@frozen
class Setting:
    """What a broker is started with.

    Attributes:
        folder: for its files.
        certificate: listen for wss with it, instead of ws.
        history: keep history where the broker has such a thing.
        heartbeats: ping silent clients as it does by default; the load answers only where it says so.
    """

    folder: Path
    cores: Cores
    certificate: Certificate | None = None
    history: bool = False
    heartbeats: bool = False


class Peer(Protocol):
    """A broker that can be started."""

    @property
    def name(self) -> str:
        """How tables and files call it."""

    @property
    def dialect(self) -> Dialect:
        """How to speak with it."""

    @property
    def missing(self) -> str | None:
        """Why it cannot be measured here, and what would help; None if it can."""

    def version(self) -> str:
        """Return what is measured."""

    def run(self, setting: Setting) -> AbstractContextManager[BrokerProcess]:
        """Run it for the length of a block."""

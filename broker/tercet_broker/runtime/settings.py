"""What the runtime can be told: listeners and timeouts. All times are seconds."""

from __future__ import annotations

from pathlib import Path

from attrs import Factory, field, frozen

from ..core.settings import BrokerSettings, positive


@frozen
class TlsSettings:
    """Where the certificate chain and its private key are (PEM files)."""

    certificate: Path
    key: Path


@frozen
class ListenerSettings:
    """One place where connections arrive.

    Attributes:
        bind: `HOST:PORT`, `[IPV6]:PORT` (port 0 lets the system choose) or `unix:PATH`.
        path: the only path that is served; others get 404.
        tls: serves wss if given, else ws.
        insecure: allows a plain listener on an address that is not loopback.
        backlog: how many connections the kernel holds for us.
    """

    bind: str
    path: str = "/"
    tls: TlsSettings | None = None
    insecure: bool = False
    backlog: int = field(default=1024, validator=positive)


@frozen
class TimeoutSettings:
    """How long the broker waits.

    Attributes:
        handshake: from accept to a complete request head, TLS included.
        connect: from there to the `connect` request (close code 3008).
        heartbeat: silence in one direction after which the broker pings.
        pong: from that ping to any frame of the client (3008).
        write: how long a peer may take none of what it is sent (4000).
        close: for the goodbye: to flush, to hear the peer's Close, to see its end.
        drain: the window in which a planned stop spreads its closes.
    """

    handshake: float = field(default=10.0, validator=positive)
    connect: float = field(default=10.0, validator=positive)
    heartbeat: float = field(default=25.0, validator=positive)
    pong: float = field(default=10.0, validator=positive)
    write: float = field(default=20.0, validator=positive)
    close: float = field(default=5.0, validator=positive)
    drain: float = field(default=5.0, validator=positive)


DEFAULT_BIND = "127.0.0.1:8080"


@frozen
class DaemonSettings:
    """Everything the daemon can be told."""

    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(DEFAULT_BIND),)
    broker: BrokerSettings = Factory(BrokerSettings)
    timeouts: TimeoutSettings = Factory(TimeoutSettings)

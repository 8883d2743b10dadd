"""How the core touches the world: listeners, links, connection tasks, clock, signals. On Trio."""

from __future__ import annotations

from .admission import AdmissionStatistics
from .authenticator import Authenticator
from .clock import Clock, SystemClock
from .connection import Connection, OpenEndpoint
from .daemon import Daemon, open_daemon
from .listeners import Listener, make_tls_context
from .offload import Offload, in_thread, in_turn
from .settings import (
    AuthSettings,
    ConnectionSettings,
    DaemonSettings,
    JwtSettings,
    ListenerSettings,
    RateSettings,
    TimeoutSettings,
    TlsSettings,
    TokenSettings,
)
from .signals import raise_descriptor_limit
from .statistics import ConnectionStatistics, DaemonStatistics, RateStatistics
from .tracing import Tracer
from .wire import SocketWire, StreamWire, Wire

__all__ = [
    "AdmissionStatistics",
    "AuthSettings",
    "Authenticator",
    "Clock",
    "Connection",
    "ConnectionSettings",
    "ConnectionStatistics",
    "Daemon",
    "DaemonSettings",
    "DaemonStatistics",
    "JwtSettings",
    "Listener",
    "ListenerSettings",
    "Offload",
    "OpenEndpoint",
    "RateSettings",
    "RateStatistics",
    "SocketWire",
    "StreamWire",
    "SystemClock",
    "TimeoutSettings",
    "TlsSettings",
    "TokenSettings",
    "Tracer",
    "Wire",
    "in_thread",
    "in_turn",
    "make_tls_context",
    "open_daemon",
    "raise_descriptor_limit",
]

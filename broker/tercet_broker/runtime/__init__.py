"""How the core touches the world: listeners, links, connection tasks, clock, signals. On Trio."""

from __future__ import annotations

from .clock import Clock, SystemClock
from .connection import Connection, OpenEndpoint
from .daemon import Daemon, open_daemon
from .listeners import Listener, make_tls_context
from .settings import DaemonSettings, ListenerSettings, TimeoutSettings, TlsSettings
from .signals import raise_descriptor_limit
from .tracing import Tracer
from .wire import SocketWire, StreamWire, Wire

__all__ = [
    "Clock",
    "Connection",
    "Daemon",
    "DaemonSettings",
    "Listener",
    "ListenerSettings",
    "OpenEndpoint",
    "SocketWire",
    "StreamWire",
    "SystemClock",
    "TimeoutSettings",
    "TlsSettings",
    "Tracer",
    "Wire",
    "make_tls_context",
    "open_daemon",
    "raise_descriptor_limit",
]

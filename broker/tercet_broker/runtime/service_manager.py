"""systemd, or whoever else speaks its protocol: told that we are ready, reload, stop and are alive; gives sockets.

The protocols are those of sd_notify(3) and sd_listen_fds(3), which need no
library: a datagram of VARIABLE=VALUE lines to the socket in $NOTIFY_SOCKET,
and descriptors from 3 on, of which $LISTEN_FDS tells the number.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Mapping, MutableMapping

import structlog
from attrs import define, field

log = structlog.get_logger("tercet")

_FIRST = 3  # SD_LISTEN_FDS_START
_MICROSECONDS = 1_000_000


@define(eq=False)
class ServiceManager:
    """Who started this process, if it wants to hear of it.

    Telling never waits and never fails: a service manager that does not
    listen is no reason to stop.

    Attributes:
        address: of its socket; an abstract one begins with a zero byte; None if nobody wants to hear.
        watchdog: seconds within which it wants a sign of life, or None.
    """

    address: str | None = None
    watchdog: float | None = None
    _is_ready: bool = field(default=False, init=False)

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> ServiceManager:
        """Return what the environment says."""
        address = environment.get("NOTIFY_SOCKET")
        if address is None or address[:1] not in {"/", "@"}:
            return cls()
        if address.startswith("@"):
            address = "\0" + address[1:]
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wants_signs = is_for_us and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
        return cls(address, int(microseconds) / _MICROSECONDS if wants_signs else None)

    def ready(self) -> None:
        """Say that connections are accepted, or that a reload is over."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that a reload begins; it wants to know when, on its own clock (Type=notify-reload)."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Say that a planned stop has begun."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Give a sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), self.address)
        except OSError as error:
            log.debug("the service manager was not told", state=state, reason=str(error))


class InheritedSocketError(ValueError):
    """A socket that the service manager has passed is none that we can listen on."""


def inherited_sockets(environment: MutableMapping[str, str] = os.environ) -> dict[str, list[socket.socket]]:
    """Return {name: its sockets} that the service manager listens on for us, and clear the environment of them.

    The name is `FileDescriptorName=` of the socket unit, `unknown` without.

    Raises:
        InheritedSocketError: one of them is no listening stream socket.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environment.get("LISTEN_FDS", "0") or 0)
    names = environment.get("LISTEN_FDNAMES", "").split(":") if environment.get("LISTEN_FDNAMES") else []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    found: dict[str, list[socket.socket]] = {}
    for number in range(count):
        name = names[number] if number < len(names) else "unknown"
        found.setdefault(name, []).append(_adopt(_FIRST + number, name))
    return found


def _adopt(descriptor: int, name: str) -> socket.socket:
    os.set_inheritable(descriptor, False)
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        raise InheritedSocketError(f"descriptor {descriptor} ({name}) of the service manager is no socket")
    sock = socket.socket(fileno=descriptor)
    is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.type != socket.SOCK_STREAM or not is_listening:
        raise InheritedSocketError(f"socket {descriptor} ({name}) of the service manager does not listen for streams")
    sock.setblocking(False)
    return sock

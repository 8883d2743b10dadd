"""The pulse: idle connections that answer their broker's pings."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

from attrs import define, field

from .frames import PONG, client_frame
from .process import BrokerError

_PING = b"\x89"
_PONG = client_frame(PONG, b"")
_READ = 4096


@define(eq=False)
class Pulse:
    """Answers WebSocket pings on all connections that it was given."""

    _socks: dict[int, socket.socket] = field(factory=dict, init=False)  # {descriptor: socket}
    _epoll: select.epoll = field(factory=select.epoll, init=False)

    def add(self, socks: Sequence[socket.socket]) -> None:
        for sock in socks:
            self._socks[sock.fileno()] = sock
            self._epoll.register(sock, select.EPOLLIN)

    def answer(self, seconds: float) -> None:
        """Answer for so long; with 0, what is there already.

        Raises:
            BrokerError: the broker closed a connection.
        """
        end = time.monotonic() + seconds
        while True:
            left = max(0.0, end - time.monotonic())
            for descriptor, _ in self._epoll.poll(left):
                self._answer(self._socks[descriptor])
            if not left:
                return

    @staticmethod
    def _answer(sock: socket.socket) -> None:
        try:
            data = sock.recv(_READ)
            if _PING in data:
                sock.send(_PONG)
        except ConnectionError as error:
            raise BrokerError(f"the broker cut an idle connection: {error}") from error
        if not data:
            raise BrokerError("the broker closed an idle connection")

    def close(self) -> None:
        self._epoll.close()

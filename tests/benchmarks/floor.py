"""The floor: a bare loop of non-blocking writes of the same frame to as many sockets.

    python floor.py PORT

No WebSocket, no JSON, no Trio. A connection that begins with `S` is a
subscriber; whatever bytes the other ones have sent go to every subscriber as
they are, in one write for each pass. That much any broker in Python has to do.
"""

from __future__ import annotations

import select
import socket
import sys

_READ = 64 * 1024
_READABLE = select.EPOLLIN


class Floor:
    """Two kinds of sockets, and the loop between them."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, _READABLE)
        self._connections: dict[int, socket.socket] = {}  # {descriptor: socket}
        self._publishers: set[int] = set()
        self._subscribers: list[socket.socket] = []

    def run(self) -> None:
        while True:
            received = []
            for descriptor, _ in self._epoll.poll():
                if descriptor in self._publishers:
                    received.append(self._connections[descriptor].recv(_READ))
                elif descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._introduce(descriptor)
            if received:
                self._forward(b"".join(received))

    def _forward(self, data: bytes) -> None:
        for subscriber in self._subscribers:
            try:
                sent = subscriber.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                subscriber.setblocking(True)
                subscriber.sendall(data[sent:])
                subscriber.setblocking(False)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self._connections[connection.fileno()] = connection
        self._epoll.register(connection, _READABLE)

    def _introduce(self, descriptor: int) -> None:
        connection = self._connections[descriptor]
        data = connection.recv(_READ)
        if data == b"S":
            self._epoll.unregister(descriptor)
            self._subscribers.append(connection)
            connection.send(b"+")
        elif data:
            self._publishers.add(descriptor)
            self._forward(data)
        else:
            self._epoll.unregister(descriptor)
            del self._connections[descriptor]
            connection.close()


if __name__ == "__main__":
    Floor(int(sys.argv[1])).run()

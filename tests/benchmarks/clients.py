"""The clients of one measurement: who they are, and that they go."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from attrs import define, field

from .arrivals import Guests, arrive, depart
from .dialect import Dialect
from .peer import Setting
from .process import BrokerProcess


@define(eq=False)
class Clients:
    """Connects clients to a broker, and ends it and them together."""

    process: BrokerProcess
    dialect: Dialect
    setting: Setting
    _present: list[socket.socket] = field(factory=list, init=False)

    def connect(self, count: int) -> list[socket.socket]:
        """Connect so many, which subscribe to nothing."""
        return self.subscribe([()] * count)

    def subscribe(self, filters: Sequence[Sequence[str]]) -> list[socket.socket]:
        """Connect one for each entry, which subscribes to all the filters of that entry."""
        scripts = []
        for number, wanted in enumerate(filters, len(self._present)):
            steps = self.dialect.greet(number)
            if wanted:
                steps.append(self.dialect.subscribe(wanted))
            scripts.append([step for step in steps if step.until])
        certificate = self.setting.certificate
        context = None if certificate is None else certificate.client_context()
        socks = arrive(Guests(self.process.address, context), scripts)
        self._present += socks
        return socks

    def leave(self) -> None:
        """End the broker and close all connections: in this order, so that no port of ours stays in TIME_WAIT."""
        self.process.popen.kill()
        self.process.popen.wait()
        depart(self._present)

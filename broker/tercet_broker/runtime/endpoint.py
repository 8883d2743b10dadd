"""What a link carries messages to, in Tercet's own protocol: a session of the core."""

from __future__ import annotations

import structlog
from attrs import define, field

from tercet_protocol import CloseCode

from ..core import Arrival, Broker, Carrier, Moment, Session
from ..core.outbox import Outbox
from .clock import Clock

log = structlog.get_logger("tercet")


@define(eq=False)
class SessionEndpoint:
    """A session, and the clock that it has not got."""

    session: Session
    clock: Clock = field(repr=False)
    outbox: Outbox = field(init=False, repr=False)  # the queue of what is to be sent
    _moment: Moment = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Look at the clock for the first time."""
        self.outbox = self.session.outbox
        self._moment = self.clock.moment()

    @property
    def user(self) -> str | None:
        """Who it is, once that is known; None is anonymous."""
        return self.session.user

    @classmethod
    def open(cls, broker: Broker, clock: Clock, carrier: Carrier, arrival: Arrival | None = None) -> SessionEndpoint:
        """Open a session on a connection."""
        return cls(broker.open(carrier, arrival), clock)

    @property
    def label(self) -> str:
        """How logs and the peer call the connection."""
        return self.session.label

    @property
    def is_open(self) -> bool:
        """Whether the client has introduced itself."""
        return self.session.is_connected

    def look_at_clock(self) -> float:
        """Return the time; what is received until the next look happens at that moment."""
        self._moment = self.clock.moment()
        return self._moment.now

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Serve one message."""
        if is_text:
            self.session.receive(payload, self._moment)
        else:
            self.session.end(CloseCode.UNSUPPORTED_DATA, "a message is a text message")

    def refuse(self, payload: bytes, retry_after: float) -> None:
        """Answer one that came faster than it may."""
        self.session.refuse(payload, retry_after)

    def advance(self) -> None:
        """Queue the next page of the replays."""
        self.session.advance()

    def ping(self) -> bool:
        """Ask for a sign of life in the protocol's own way; False if a WebSocket ping is what is wanted."""
        if self.session.wants_pings:
            self.session.ping()
        return self.session.wants_pings

    def end(self, code: CloseCode, reason: str) -> None:
        """End the session and close the connection."""
        self.session.end(code, reason)

    def fault(self, error: Exception) -> None:
        """Tell the log of a bug in this session's turn, and the client that it was ours."""
        log.error("fault in a connection", connection=self.label, exc_info=error)
        self.session.fail("the broker has a fault, which was reported; this connection will be closed")

    def leave(self) -> None:
        """End the session: the connection is ending."""
        self.session.leave()

    def close(self) -> None:
        """Drop what was not sent: the connection has ended."""
        self.session.outbox.close()

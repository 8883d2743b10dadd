"""One connection, from the first byte to the last: the only place that handles its failures.

    handshake      handshake.py: up to the request head
    talk           trio-websocket and the lane feed the endpoint; until somebody ends it
    goodbye        flush, Close, end of stream: one deadline again

Whatever happens in here ends here. Cancelling it closes the socket at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import NoReturn, Protocol

import structlog
import trio
from attrs import Factory, define, field, frozen
from trio_websocket import ConnectionClosed, wrap_server_stream

from tercet_protocol import CloseCode, ErrorCode

from ..core import Answer, Arrival, Identity, RefusedError
from .admission import Admission, Ticket
from .authenticator import Authenticator
from .clock import Clock
from .doorway import Doorway
from .failures import Failures
from .flusher import Flusher
from .frames import FrameReader
from .handshake import Handshake
from .keepalive import Deadlines, round_up
from .link import Link
from .meter import Meter, Meters
from .sending import Ending, Endpoint
from .settings import ConnectionSettings, TimeoutSettings
from .statistics import ConnectionStatistics
from .tracing import LinkTracer, Tracer
from .turns import Turns
from .upgrade import Upgrade
from .wire import Wire

log = structlog.get_logger("tercet")

# A frame may be twice as large as a message may be, so that one that is a
# little too large gets an answer instead of a Close (protocol.md, section 6).
_FRAME_PER_MESSAGE = 2


class OpenEndpoint(Endpoint, Protocol):
    """An endpoint that a whole connection can be served with."""

    @property
    def label(self) -> str:
        """How logs and the peer call the connection."""

    @property
    def user(self) -> str | None:
        """Who it is, once that is known."""

    @property
    def is_open(self) -> bool:
        """Whether the client has introduced itself; it must within the `connect` timeout."""

    def ping(self) -> bool:
        """Ask for a sign of life in the protocol's own way; False if a WebSocket ping is what is wanted."""

    def end(self, code: CloseCode, reason: str) -> None:
        """End by our decision: what is queued is still sent, then a Close."""

    def leave(self) -> None:
        """Hear that the connection is ending: nothing more may be queued for it."""

    def close(self) -> None:
        """Hear that it has ended."""


def _note_nothing(connection: Connection) -> None:
    pass


@frozen
class Services:
    """What all connections of a daemon share.

    Attributes:
        open_endpoint: makes the endpoint of a new connection; the place of further protocols.
        max_message: bytes that a message may have (frames: twice that).
        is_draining: whether newcomers are turned away.
        clock: for what comes later than the request that it answers.
        authenticator: says whose tokens are; None where they mean nothing.
        admission: the books of all connections.
        failures: the books of tokens that were wrong.
        meters: what they may ask for.
        turns: when replays go on.
        established: called once a connection has become a WebSocket, and …
        ended: … when it is none any more.
        lane: whether whole data frames bypass trio-websocket.
    """

    open_endpoint: Callable[[Connection], OpenEndpoint]
    max_message: int
    timeouts: TimeoutSettings
    flusher: Flusher
    deadlines: Deadlines
    is_draining: Callable[[], bool]
    clock: Clock
    turns: Turns
    authenticator: Authenticator | None = None
    admission: Admission = Factory(Admission)
    failures: Failures = Factory(lambda: Failures(ConnectionSettings().failed_tokens))
    meters: Meters = Factory(Meters)
    established: Callable[[Connection], None] = _note_nothing
    ended: Callable[[Connection], None] = _note_nothing
    tracer: Tracer | None = None
    lane: bool = True


@define(eq=False)
class Connection:
    """One connection. It is the core's `Carrier` and has deadlines (`Timed`).

    Attributes:
        drain_at: when a planned stop closes it, in Trio's time.
        arrival: what was known of it when it became a WebSocket.
        handshake: how it came in, and from which address.
        meter: what it has sent and was sent; None until it is established.
    """

    wire: Wire
    services: Services = field(repr=False)
    doorway: Doorway = field(factory=Doorway, repr=False)
    pass_: Ticket | None = field(default=None, repr=False)
    drain_at: float = math.inf
    arrival: Arrival = field(factory=Arrival, repr=False)
    look_at: float = math.inf
    handshake: Handshake = field(init=False, repr=False)
    meter: Meter | None = field(default=None, init=False, repr=False)
    accepted_at: float = field(factory=trio.current_time, init=False)
    _link: Link | None = field(default=None, init=False, repr=False)
    _endpoint: OpenEndpoint | None = field(default=None, init=False, repr=False)
    _connect_by: float = field(default=math.inf, init=False)
    _pinged_at: float | None = field(default=None, init=False)
    _signs_by_ping: int = field(default=0, init=False)
    # A message that was not whole at the last look: (how many had come before it, when it was seen first).
    _arriving: tuple[int, float] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Take a place in the books, unless whoever accepted it has."""
        services = self.services
        if self.pass_ is None:
            self.pass_ = services.admission.enter(None)
        self.handshake = Handshake(
            self.wire, self.doorway, services.admission, self.pass_, services.timeouts, services.is_draining
        )

    async def serve(self) -> None:
        """Serve it until it ends. Raises nothing but `Cancelled`."""
        try:
            await self._converse(await self.handshake.run())
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
            # (At debug: whoever scans the network would have a line for each port that it knocks at.)
            reasons = [str(error) for error in group.exceptions]
            log.debug("connection not established", peer=self.handshake.peer, reason="; ".join(reasons))
        except* Exception as group:
            log.exception("fault in a connection", peer=self.handshake.peer, exc_info=group)
        finally:
            self.services.admission.leave(self.handshake.ticket)
            await self.wire.aclose()

    # Talk and goodbye

    async def _converse(self, upgrade: Upgrade | None) -> None:
        """Talk and say goodbye, unless there is no request to become a WebSocket."""
        if upgrade is None:
            return
        services = self.services
        site = self.handshake.ticket.site
        self.arrival = Arrival(self.wire.identity, upgrade.bearer, self.wire.is_private, site)
        endpoint = self._endpoint = services.open_endpoint(self)
        began = trio.current_time()
        self.meter = Meter(services.meters, began, endpoint)
        try:
            async with trio.open_nursery() as nursery:
                link = self._link = self._make_link(endpoint, nursery, self.meter)
                try:
                    link.greet(upgrade.canonical_request(), upgrade.trailing)
                    subprotocol = upgrade.subprotocol
                    del upgrade  # thousands of connections are as far as this, and need it no longer
                    log.info("connection opened", connection=endpoint.label, peer=self.handshake.peer)
                    timeout = services.timeouts.connect
                    self._connect_by = round_up(self.accepted_at + timeout, timeout)
                    services.deadlines.schedule(self, self._next_look(began))
                    services.established(self)
                    try:  # noqa: SIM105 - an object less for each of the thousands that stay here
                        await self._talk(link, nursery, subprotocol)
                    except ConnectionClosed:
                        pass
                    endpoint.leave()
                    with trio.move_on_after(services.timeouts.close):
                        await link.goodbye()
                    nursery.cancel_scope.cancel()
                finally:
                    # Before the nursery closes: the flusher's turn may come between that and this task's.
                    link.end()
        finally:
            self._conclude(endpoint, began)

    def _make_link(self, endpoint: OpenEndpoint, nursery: trio.Nursery, meter: Meter) -> Link:
        services = self.services
        return Link(
            wire=self.wire,
            endpoint=endpoint,
            reader=FrameReader(_FRAME_PER_MESSAGE * services.max_message),
            flusher=services.flusher,
            nursery=nursery,
            meter=meter,
            turns=services.turns,
            write_timeout=services.timeouts.write,
            write_bytes=services.timeouts.write_bytes,
            lane=services.lane,
            tracer=None if services.tracer is None else LinkTracer(services.tracer, endpoint.label),
        )

    def _conclude(self, endpoint: OpenEndpoint, began: float) -> None:
        """Do what has to be done at the end: from the last to the first, and all of it even if one of them fails."""
        with ExitStack() as at_end:
            at_end.callback(self._let_go)
            at_end.callback(self._log_end, began)
            at_end.callback(self.services.ended, self)
            at_end.callback(endpoint.close)
            at_end.callback(endpoint.leave)
            at_end.callback(self.services.deadlines.schedule, self, math.inf)

    async def _talk(self, link: Link, nursery: trio.Nursery, subprotocol: str | None) -> NoReturn:
        """Let trio-websocket read, and receive what comes its way, until that raises `ConnectionClosed`."""
        request = await wrap_server_stream(
            nursery,
            link,
            message_queue_size=1,
            max_message_size=_FRAME_PER_MESSAGE * self.services.max_message,
            receive_buffer_size=None,
        )
        websocket = await request.accept(subprotocol=subprotocol)
        link.received()
        while True:
            message = await websocket.get_message()
            if isinstance(message, str):
                link.deliver(message.encode(), is_text=True)
            else:
                link.deliver(message, is_text=False)
            link.received()

    def _let_go(self) -> None:
        """Break the cycles: memory is to be free at once, and not when the collector comes by."""
        self._link = self._endpoint = self.meter = None

    def _log_end(self, began: float) -> None:
        ending = None if self._link is None else self._link.ending
        ending = ending or Ending(False, CloseCode.ABNORMAL, "cancelled")
        endpoint, meter = self._endpoint, self.meter
        if endpoint is None or meter is None:
            return
        log.info(
            "connection closed",
            connection=endpoint.label,
            peer=self.handshake.peer,
            user=endpoint.user,
            by="peer" if ending.by_peer else "broker",
            code=int(ending.code),
            reason=ending.reason,
            seconds=round(trio.current_time() - began, 3),
            messages_in=meter.messages_in,
            bytes_in=meter.bytes_in,
            deliveries=endpoint.outbox.account.delivered,
            bytes_out=endpoint.outbox.bytes_sent,
        )

    def statistics(self) -> ConnectionStatistics | None:
        """Return the counts as they are now; None before it is established."""
        endpoint, meter = self._endpoint, self.meter
        if endpoint is None or meter is None:
            return None
        return ConnectionStatistics(
            label=endpoint.label,
            peer=self.handshake.peer,
            user=endpoint.user,
            seconds=trio.current_time() - self.accepted_at,
            messages_in=meter.messages_in,
            bytes_in=meter.bytes_in,
            bytes_out=endpoint.outbox.bytes_sent,
        )

    # Carrier

    def wake(self) -> None:
        """Have the outbox flushed soon."""
        # A link does that; before there is one, nothing could be sent.

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close."""
        if self._link is not None:
            self._link.close(code, reason)

    def authenticate(self, token: str, answer: Answer) -> None:
        """Have a token verified, in this connection's nursery."""
        if self._link is not None:
            self._link.nursery.start_soon(self._authenticate, self._link, token, answer)

    async def _verify(self, token: str) -> Identity | RefusedError:
        """Return whose a token is. One that is wrong is charged to the address, which may not go on for ever."""
        services, address = self.services, self.handshake.address
        if services.authenticator is None:
            return RefusedError(ErrorCode.UNAUTHORIZED, "tokens are not taken here")
        pause = services.failures.pause(address, trio.current_time())
        if pause:
            message = "too many wrong tokens came from this address; come back later"
            return RefusedError(ErrorCode.RATE_LIMITED, message, retry_after=round(pause, 3))

        def charge() -> None:
            services.failures.note(address, trio.current_time())

        verdict = await services.authenticator.verify(token, charge)
        if isinstance(verdict, RefusedError) and verdict.retry_after is None:
            charge()
        return verdict

    async def _authenticate(self, link: Link, token: str, answer: Answer) -> None:
        services, endpoint = self.services, self._endpoint
        verdict: Identity | RefusedError = RefusedError(ErrorCode.INTERNAL, "it could not be verified")
        try:
            verdict = await self._verify(token)
            # From here to the end it is one step: what was verified cannot be revoked in between.
            answer(verdict, services.clock.moment())
        except Exception as error:  # noqa: BLE001 - the boundary of a connection
            link.fault(error)
        finally:
            link.release()
        label = None if endpoint is None else endpoint.label
        if isinstance(verdict, Identity):
            log.info("authenticated", connection=label, user=verdict.user, source=verdict.source)
        else:
            # What was not looked at is counted (`Failures.refused`); a line for each would be the client's to multiply.
            level = log.debug if verdict.code is ErrorCode.RATE_LIMITED else log.info
            level("not authenticated", connection=label, peer=self.handshake.peer, reason=verdict.message)

    # Timed

    def drain(self, when: float) -> None:
        """Close the connection at `when`, because the daemon stops."""
        self.drain_at = when
        self.services.deadlines.schedule(self, trio.current_time())

    def look(self, now: float) -> float:
        """Do what is due; return when to look again. Raises nothing: all connections share the task that calls it."""
        link, endpoint = self._link, self._endpoint
        if link is None or endpoint is None or link.ending is not None:
            return math.inf
        try:
            if now >= self.drain_at:
                endpoint.end(CloseCode.SERVICE_RESTART, "the broker stops; come back")
                return math.inf
            return min(self.drain_at, self._look_at_life(now, link, endpoint))
        except Exception as error:  # noqa: BLE001 - the boundary of a connection
            link.fault(error)
            return math.inf

    def _next_look(self, now: float) -> float:
        """Return when to look at a connection that is not open yet, and may be by then."""
        heartbeat = self.services.timeouts.heartbeat
        return min(self._connect_by, round_up(now + heartbeat, heartbeat))

    def _look_at_life(self, now: float, link: Link, endpoint: OpenEndpoint) -> float:
        timeouts = self.services.timeouts
        if not endpoint.is_open:
            if now < self._connect_by:
                return self._next_look(now)
            endpoint.end(CloseCode.TIMEOUT, f"no 'connect' within {timeouts.connect:g} s")
            return math.inf
        if endpoint.outbox.is_congested or link.is_paused:
            # It is not read from, so it cannot be heard. That it takes what it is sent, `write` watches over.
            self._pinged_at = self._arriving = None
            return now + timeouts.pong
        due = self._message_due(now, link)
        if now >= due:
            endpoint.end(CloseCode.TIMEOUT, f"a message that was not whole after {timeouts.read:g} s and more")
            return math.inf
        return min(due, now + timeouts.read, self._look_for_signs(now, link, endpoint))

    def _message_due(self, now: float, link: Link) -> float:
        """Return by when the message that is coming has to be whole; never, where there is none.

        Nothing marks its beginning: it is the same one as at the last look if none has become whole since. So it
        counts from the first look that sees it, which is within `read` of that.
        """
        arrived, timeouts = link.reader.arrived, self.services.timeouts
        if arrived is None:
            self._arriving = None
            return math.inf
        if self._arriving is None or self._arriving[0] != link.meter.messages_in:
            self._arriving = (link.meter.messages_in, now)
        return self._arriving[1] + timeouts.read * (1 + arrived / timeouts.read_bytes)

    def _look_for_signs(self, now: float, link: Link, endpoint: OpenEndpoint) -> float:
        """Ping who is silent, and end who stays so; return when to look again."""
        timeouts = self.services.timeouts
        # A message that is served now, and came long ago, kept the answer that lies behind it from being read.
        signs = link.heard + link.meter.messages_in
        if self._pinged_at is not None and signs == self._signs_by_ping:
            if now < self._pinged_at + timeouts.pong:
                return self._pinged_at + timeouts.pong
            endpoint.end(CloseCode.TIMEOUT, f"no sign of life within {timeouts.pong:g} s of a ping")
            return math.inf
        self._pinged_at = None
        quiet_at = min(link.heard_at, link.outbox.sent_at) + timeouts.heartbeat
        if now < quiet_at:
            return round_up(quiet_at, timeouts.heartbeat)
        self._pinged_at, self._signs_by_ping = now, signs
        if not endpoint.ping():
            link.ping(now)
        return now + timeouts.pong

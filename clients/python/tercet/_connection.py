"""One WebSocket connection, from an open stream to its end."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import attrs
import trio
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

import tercet_protocol as protocol
from tercet_protocol import CloseCode, Limits

from ._ending import Ending, bounded_delay, code_of_refusal, read_retry_after
from ._wire import MAX_MESSAGE_SIZE, Wire

if TYPE_CHECKING:
    from ._session import Session

# Silence for this much longer than the heartbeat means that the broker is gone
# (protocol.md, section 5: it pings after `heartbeat`).
_GRACE = 10.0
# How long reading may wait for an application that is behind. The broker's own
# bounds for a slow consumer apply meanwhile; ours for its silence are far away.
_PATIENCE = 5.0
# Queued for sending. Publishes are bounded far below it; who gets here has a
# broker that does not read, and keeps cancelling requests.
_MAX_QUEUED = 128 * 2**20
_LEAST_WAIT = 1.0  # seconds between two renewals of a token
_MAX_REASON = 123  # bytes of a Close's reason (RFC 6455, 5.5.1)

logger = logging.getLogger("tercet")


@frozen
class Greeting:
    """What a client says of itself, and where."""

    host: str
    resource: str
    name: str | None
    token: str | None = field(repr=False)
    renew: Callable[[], Awaitable[str]] | None = None  # gets a new token; None where there is only the one


@define(eq=False)
class Connection:
    """A `Link`, once the broker has accepted it.

    Everything of trio-websocket stays in one nursery here: what it raises
    becomes an `Ending`. What our own code raises is a bug and goes on up.
    """

    _stream: trio.abc.Stream
    _session: Session
    _greeting: Greeting
    _entropy: random.Random
    _close_timeout: float
    _deadline: float  # trio's clock: to be connected by then
    limits: Limits = field(init=False)
    is_draining: bool = field(default=False, init=False)
    token_ends: float = field(default=math.inf, init=False)  # on trio's clock
    _renewal: tuple[int, trio.Event] | None = field(default=None, init=False)  # (id of the request, answered)
    _retry_after: float | None = field(default=None, init=False)
    _connect_id: int = field(default=0, init=False)
    _silence: float | None = field(default=None, init=False)  # how much of it is too much; None: not connected
    _since: float = field(default=0.0, init=False)
    _complaint: str = field(default="", init=False)  # the broker's last error that was no reply
    _ending: Ending | None = field(default=None, init=False)
    _bug: Exception | None = field(default=None, init=False)
    _talk: trio.CancelScope = field(init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _websocket: WebSocketConnection | None = field(default=None, init=False)
    _wire: Wire = field(init=False)
    _patience: float = field(default=_PATIENCE, init=False)  # what is left of it
    _eased: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    def __attrs_post_init__(self) -> None:
        self._talk = trio.CancelScope(deadline=self._deadline)
        self._wire = Wire(
            self._stream,
            self._entropy,
            self._on_text,
            self._on_heard,
            self._on_end,
            self._on_violation,
            self._wait_for_room,
        )

    async def run(self) -> Ending:
        """Talk until the connection ends, close it in a bounded time, and return why it ended.

        Cancelled, it is cut off without a Close. To end it properly: `close()`.
        """
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._wire.write)
                try:
                    await self._converse(nursery)
                except Exception as error:  # noqa: BLE001 - ours, so not for the `except*` below
                    self._bug = self._bug or error
                nursery.cancel_scope.cancel()
        except* Exception as group:  # noqa: BLE001 - whatever trio-websocket raises, it is its connection's end
            failure = group
        finally:
            self._nursery = None
            self._session_over()
            await trio.aclose_forcefully(self._stream)
        if self._bug is not None:
            raise self._bug
        ending = self._ending or _ending_of_failure(failure)
        lasted = None if self._silence is None else trio.current_time() - self._since
        return attrs.evolve(ending, lasted=lasted, retry_after=ending.retry_after or self._retry_after)

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return self._wire.queued

    def close(self) -> None:
        """Let `run` say goodbye and return."""
        self._end(Ending("you closed it", code=CloseCode.NORMAL, farewell=CloseCode.NORMAL))

    # The link

    def send(self, payload: bytes) -> None:
        """Hand one request over for sending."""
        self._wire.send_text(payload)
        self.ease()  # its answer is wanted
        if self._wire.queued > _MAX_QUEUED:
            self._end(Ending("the broker does not read what it is sent", code=CloseCode.ABNORMAL))

    def hold(self) -> None:
        """See whether reading may wait before it goes on: an application is behind."""
        self._wire.hold()

    def ease(self) -> None:
        """Let reading go on if it waits for an application."""
        self._eased.unpark_all()

    def fail(self, code: int, reason: str) -> None:
        """Close the connection, because the broker broke the protocol."""
        self._end(Ending(reason, code=code, farewell=code))

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Call `action` in `delay` seconds, unless the connection has ended by then."""

        async def wait() -> None:
            await trio.sleep(bounded_delay(delay) or 0.0)
            if self._ending is None:
                try:
                    action()
                except Exception as error:  # noqa: BLE001 - as in `_on_text`
                    self._give_up(error)

        if self._nursery is not None:
            self._nursery.start_soon(wait)

    # The token

    def _note_token(self, expires_in: float | None) -> None:
        self.token_ends = math.inf if expires_in is None else trio.current_time() + expires_in

    def _begin_renewals(self) -> None:
        if self.token_ends < math.inf and self._greeting.renew is not None and self._nursery is not None:
            self._nursery.start_soon(self._keep_token, self._greeting.renew)

    def _take_renewal(self, event: protocol.AnyEvent | None) -> bool:
        """Take in the answer to a renewal; return False if the event is none."""
        if self._renewal is None or not isinstance(event, protocol.Authenticated | protocol.Error):
            return False
        id_, answered = self._renewal
        if event.id != id_:
            return False
        if isinstance(event, protocol.Authenticated):
            self._note_token(event.expires_in)
        else:
            self._complaint = f"{event.code}: {event.message}"
            logger.warning("the broker does not take the new token: %s", self._complaint)
        answered.set()
        return True

    async def _keep_token(self, renew: Callable[[], Awaitable[str]]) -> None:
        """Renew the token each time before it ends, not all clients at the same time.

        If no new one is to be had, it is tried again while there is time. After
        that the broker closes with 3000, and the supervisor does the rest.
        """
        while (left := self.token_ends - trio.current_time()) < math.inf:
            await trio.sleep(max(_LEAST_WAIT, left * self._entropy.uniform(0.6, 0.8)))
            try:
                token = await renew()
            except Exception as error:  # noqa: BLE001 - the application's own
                logger.warning("no new token was to be had: %s", type(error).__name__)
                continue
            id_, answered = self._renewal = (next(self._session.ids), trio.Event())
            self.send(protocol.encode(protocol.Authenticate(id=id_, token=token)))
            with trio.move_on_after(_GRACE):
                await answered.wait()

    # The conversation

    async def _converse(self, nursery: trio.Nursery) -> None:
        with self._talk:
            stream = cast("trio.SocketStream", self._wire)  # its annotation is too narrow, its code is not
            websocket = await wrap_client_stream(
                nursery,
                stream,
                self._greeting.host,
                self._greeting.resource,
                subprotocols=[protocol.SUBPROTOCOL],
                message_queue_size=1,
                max_message_size=MAX_MESSAGE_SIZE,
            )
            self._websocket = websocket
            if websocket.subprotocol == protocol.SUBPROTOCOL:
                self._say_hello()
                await self._listen(websocket)
            else:
                code = CloseCode.PROTOCOL_ERROR
                text = f"it does not speak {protocol.SUBPROTOCOL}"
                self._end(Ending(text, code=code, farewell=code, is_final=True))
        if self._ending is None:
            self._end(self._timed_out())
        self._session_over()
        with trio.move_on_after(self._close_timeout):
            await self._say_goodbye()

    def _say_hello(self) -> None:
        self._connect_id = next(self._session.ids)
        request = protocol.Connect(
            id=self._connect_id, token=self._greeting.token, client=self._greeting.name, heartbeat=True
        )
        self.send(protocol.encode(request))

    async def _listen(self, websocket: WebSocketConnection) -> None:
        """Take what did not come through the lane; find out how it ended."""
        try:
            while True:
                message = await websocket.get_message()
                if isinstance(message, bytes):
                    self.fail(CloseCode.UNSUPPORTED_DATA, "the broker sent a binary message")
                else:
                    self._on_text(message.encode("utf-8", "surrogatepass"))
        except ConnectionClosed as closed:
            reason = closed.reason
            code = CloseCode.ABNORMAL if reason is None else reason.code
            text = self._explanation("" if reason is None else reason.reason or "")
            if code == CloseCode.ABNORMAL or self._wire.is_closed_by_peer:
                self._end(Ending(text, code=code))
            else:
                self.fail(code, text)  # trio-websocket's verdict on what the broker sent

    def _explanation(self, reason: str) -> str:
        """Return why the broker closed: what its Close says, or the error before it, if that says the same and more."""
        if self._complaint.startswith(f"{reason}:"):
            return self._complaint
        return reason or self._complaint or "the connection was cut"

    async def _say_goodbye(self) -> None:
        ending, websocket = self._ending, self._websocket
        if ending is None or websocket is None or self._wire.is_broken:
            return
        if ending.farewell is None:
            if ending.code != CloseCode.ABNORMAL:
                await self._wire.flush()  # the answer to the broker's Close
            return
        text = "" if ending.farewell == CloseCode.NORMAL else ending.reason
        text = text.encode()[:_MAX_REASON].decode(errors="ignore")
        if websocket.closed is None:
            await websocket.aclose(ending.farewell, text)
        else:
            self._wire.send_close(ending.farewell, text)
            await self._wire.flush()

    def _timed_out(self) -> Ending:
        if self._silence is None:
            cause = trio.TooSlowError("the broker did not answer in time")
            return Ending("the broker did not answer in time", code=CloseCode.ABNORMAL, cause=cause)
        return Ending(f"nothing was heard from the broker for {self._silence:g} s", code=CloseCode.ABNORMAL)

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._talk.cancel()
            self.ease()
            if ending.farewell is not None:
                self._wire.stop_listening()

    def _session_over(self) -> None:
        if self._session.link is self:
            self._session.detach()

    # What the wire calls, within trio-websocket's reader task

    async def _wait_for_room(self) -> None:
        """Let the broker wait for an application that is behind, for a while, if nobody waits for the broker.

        Otherwise `async for …: await client.publish(…)` would wait for itself.
        When patience is at an end, reading goes on, and subscriptions whose
        buffers are full step back, until all have caught up.
        """
        session = self._session
        if not session.registry.is_pressed:
            self._patience = _PATIENCE
            return
        begun = trio.current_time()
        with trio.move_on_after(self._patience):
            while self._ending is None and session.may_pause:
                await self._eased.park()
        self._patience -= trio.current_time() - begun

    def _on_heard(self) -> None:
        if self._silence is not None:
            self._talk.deadline = trio.current_time() + self._silence

    def _on_end(self) -> None:
        if self._websocket is None:
            # trio-websocket would wait for the rest of the handshake for ever.
            self._end(Ending("the connection was cut during the handshake", code=CloseCode.ABNORMAL))

    def _on_violation(self, code: int, reason: str) -> None:
        self.fail(code, reason)

    def _on_text(self, payload: bytes) -> None:
        if self._ending is not None:
            return
        try:
            if not payload.isascii():
                payload.decode()
            event = protocol.decode_event(payload)
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_PAYLOAD, "the broker sent what is not UTF-8")
        except protocol.DecodeError as error:
            self.fail(CloseCode.PROTOCOL_ERROR, str(error))
        else:
            try:
                if not self._take_renewal(event):
                    self._on_event(event)
            except Exception as error:  # noqa: BLE001 - a bug of ours must not pass for trio-websocket's
                self._give_up(error)

    def _give_up(self, bug: Exception) -> None:
        self._bug = self._bug or bug
        self._end(Ending("a bug in the client"))

    def _on_event(self, event: protocol.AnyEvent | None) -> None:
        match event:
            case protocol.Message() if self._silence is not None:
                self._session.handle(event)
            case protocol.PingEvent():
                self.send(protocol.encode(protocol.Pong(id=event.id)))
            case protocol.Connected() if event.id == self._connect_id and self._silence is None:
                self.limits = event.limits
                self._since = trio.current_time()
                self._silence = max(event.heartbeat, 0.0) + _GRACE
                self._on_heard()
                self._session.attach(self)
                self._note_token(event.expires_in)
                self._begin_renewals()
            case protocol.Drain():
                self.is_draining = True
                self._retry_after = bounded_delay(event.retry_after)
            case protocol.Error() if event.id is None:
                self._complaint = f"{event.code}: {event.message}"
                logger.debug("the broker complains: %s", self._complaint)
            case protocol.Error() if event.id == self._connect_id:
                self._refuse(event)
            case None:
                pass
            case _ if self._silence is not None:
                self._session.handle(event)

    def _refuse(self, event: protocol.Error) -> None:
        code = code_of_refusal(event.code)
        self._end(
            Ending(
                f"{event.code}: {event.message}",
                code=code,
                retry_after=bounded_delay(event.retry_after),
                farewell=CloseCode.NORMAL,
            )
        )


def _ending_of_failure(failure: BaseException | None) -> Ending:
    """Return what trio-websocket's failure means."""
    while isinstance(failure, BaseExceptionGroup) and failure.exceptions:
        failure = failure.exceptions[0]
    if isinstance(failure, ConnectionRejected):
        status = failure.status_code
        body = (failure.body or b"").decode(errors="replace").strip()
        if body.startswith("<"):  # a proxy's page, made for browsers; a broker writes a sentence
            body = ""
        text = f"the handshake was answered with HTTP {status}" + (f": {body[:200]}" if body else "")
        return Ending(text, status=status, retry_after=read_retry_after(failure.headers), cause=failure)
    return Ending(f"the connection failed: {failure!r}", code=CloseCode.ABNORMAL, cause=failure)

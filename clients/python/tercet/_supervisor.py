"""Keeps the client connected: dials, waits, and knows when to stop."""

from __future__ import annotations

import inspect
import logging
import math
import random
import ssl
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from tercet_protocol import CloseCode, Reaction

from ._address import Address
from ._backoff import Backoff
from ._connection import Connection, Greeting
from ._ending import Ending
from ._errors import BrokenClientError, CannotConnectError, ClosedClientError, TercetError
from ._session import Session

Token = str | Callable[[], str | Awaitable[str]]
Dial = Callable[[], Awaitable[trio.abc.Stream]]

logger = logging.getLogger("tercet")


@define(eq=False)
class Supervisor:
    """Runs one connection after the other, until closed or until it is pointless."""

    _session: Session
    _address: Address
    _dial: Dial | None
    _ssl_context: ssl.SSLContext | None
    _token: Token | None = field(repr=False)
    _name: str | None
    _entropy: random.Random
    _wait: bool
    _connect_timeout: float
    _close_timeout: float
    _backoff: Backoff = field(init=False)
    _current_token: str | None = field(default=None, init=False, repr=False)
    _token_ends: float = field(default=math.inf, init=False)  # on trio's clock, as far as that was told
    _renewed: bool = field(default=False, init=False)  # and not steady since
    _closed: bool = field(default=False, init=False)
    _connection: Connection | None = field(default=None, init=False)
    _idle: trio.CancelScope = field(factory=trio.CancelScope, init=False)  # dialling or waiting
    _lifeline: trio.CancelScope = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = Backoff(self._entropy)
        self._lifeline = trio.CancelScope(shield=True)

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return 0 if self._connection is None else self._connection.queued

    async def run(self) -> None:
        """Keep connected. Cancelled, it says goodbye, which takes `close_timeout` at most."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_when_cancelled)
            # The shield lets a Close be sent. Its deadline is set by the task
            # above in the moment of cancellation.
            with self._lifeline:
                async with trio.open_nursery() as inner:
                    inner.start_soon(self._session.publisher.expire)
                    await self._keep_connected()
                    inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _close_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._lifeline.deadline = trio.current_time() + self._close_timeout
            self._closed = True
            self._session.stop(lambda: ClosedClientError("the client was closed"), at_once=True)
            self._idle.cancel()
            if self._connection is not None:
                self._connection.close()

    async def _keep_connected(self) -> None:
        while True:
            ending = await self._attempt()
            if self._closed:
                return
            steady = ending.lasted is not None and self._backoff.lasted(ending.lasted)
            self._renewed = self._renewed and not steady
            delay = self._decide(ending)
            if delay is None:
                self._stop(ending)
                return
            logger.info("not connected to %s: %s; next try in %.1f s", self._address.url, ending.reason, delay)
            with trio.CancelScope() as self._idle:
                await trio.sleep(delay)
            if self._idle.cancelled_caught:
                return

    def _decide(self, ending: Ending) -> float | None:
        """Return the seconds to wait before the next attempt, or None to stop."""
        if not self._session.connections and not self._wait:
            return None
        match ending.reaction:
            case Reaction.STOP:
                return None
            case Reaction.RENEW:
                if self._renewed or not callable(self._token):
                    return None
                self._renewed = True
                self._current_token = None
            case Reaction.RECONNECT:
                if ending.retry_after is not None:
                    return ending.retry_after
        return self._backoff.next()

    def _stop(self, ending: Ending) -> None:
        url = self._address.url
        code = ending.status if ending.status is not None else ending.code

        def error() -> TercetError:
            if self._session.connections:
                made = BrokenClientError(f"stopped: {ending.reason}", code=code, reason=ending.reason)
            else:
                text = f"cannot connect to {url}: {ending.reason}"
                made = CannotConnectError(text, code=code, reason=ending.reason)
            made.__cause__ = ending.cause
            return made

        self._session.stop(error)

    async def _attempt(self) -> Ending:
        deadline = trio.current_time() + self._connect_timeout
        stream: trio.abc.Stream | None = None
        token: str | None = None
        # Made anew each time: once cancelled, a scope stays so.
        with trio.CancelScope(deadline=deadline) as self._idle:
            try:
                token = await self._get_token()
            except Exception as error:  # noqa: BLE001 - the application's own
                return Ending(f"no token was to be had: {error!r}", cause=error, is_final=True)
            try:
                stream = await (self._address.dial(self._ssl_context) if self._dial is None else self._dial())
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                return Ending(_explain(error), code=CloseCode.ABNORMAL, cause=error)
        if stream is None:
            late = trio.TooSlowError(f"not within {self._connect_timeout:g} s")
            return Ending(f"no connection within {self._connect_timeout:g} s", CloseCode.ABNORMAL, cause=late)
        renew = self._renew_token if callable(self._token) else None
        greeting = Greeting(self._address.host_header, self._address.resource, self._name, token, renew)
        self._connection = Connection(stream, self._session, greeting, self._entropy, self._close_timeout, deadline)
        if self._closed:
            self._connection.close()
        try:
            return await self._connection.run()
        finally:
            self._token_ends = self._connection.token_ends
            self._connection = None

    async def _renew_token(self) -> str:
        self._current_token = None
        token = await self._get_token()
        return token or ""

    async def _get_token(self) -> str | None:
        if not callable(self._token):
            return self._token
        if self._current_token is None or trio.current_time() >= self._token_ends:
            self._current_token, self._token_ends = None, math.inf
            token = self._token()
            self._current_token = await token if inspect.isawaitable(token) else token
        return self._current_token


def _explain(error: BaseException) -> str:
    """Return what went wrong, the innermost cause of it, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__

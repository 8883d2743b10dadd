"""The daemon: the nursery tree that supervises everything, and its planned end.

    daemon                       signals, sweeper, deadlines, flusher
    └─ connections               outlives the listeners' clients
       ├─ listener, each         accepts; while draining it turns newcomers away with 503
       └─ connection, each       one nursery a socket
          ├─ reader              trio-websocket's task, reading from the link
          └─ drainer             only while the socket does not take more, or a replay is not through

Cancelling `run` at any await closes every socket and leaves no task behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import trio
from attrs import define, field

from .. import __version__
from ..core import Access, Broker, BrokerStatistics, Entropy, Rule, Rules
from .authenticator import Authenticator
from .clock import Clock, SystemClock, system_entropy
from .connection import Connection, OpenEndpoint, Services
from .endpoint import SessionEndpoint
from .flusher import Flusher
from .keepalive import Deadlines
from .key_set import Fetch, fetch
from .listeners import Listener, accept_forever, open_listeners
from .offload import Offload, in_thread
from .settings import AuthSettings, DaemonSettings
from .signals import obey_signals
from .tracing import Tracer
from .wire import Wire

log = structlog.get_logger("tercet")

_KEY_BITS = 256  # of the hash by which verified tokens are remembered
_SWEEP = 1.0  # seconds between two looks at what has expired


@define(eq=False)
class Daemon:
    """A broker with its listeners and connections.

    Attributes:
        settings: see `DaemonSettings`.
        clock: time; Trio's and the system's unless given.
        entropy: chance; the operating system's unless given.
        listeners: where connections come from, instead of `settings.listeners`.
        tracer: hears of every frame.
        lane: whether whole data frames bypass trio-websocket. Off, everything is the same but slower.
        open_endpoint: serves connections with something else than sessions of `broker`.
        broker: the core; a new one with nothing in its logs unless given. One that has served before
            (`Broker.reopen`) brings its epochs, logs, retained values and keys with it.
        offload: runs what takes long, such as verifying a static token; in a thread unless given.
        fetch: gets the key sets of issuers of tokens, from the network unless given; run by `offload`.
        authenticator: says whose tokens are; None where the settings have no `auth`.

    Raises:
        OSError, ValueError: a key file of the settings cannot be used.
    """

    settings: DaemonSettings = field(factory=DaemonSettings)
    clock: Clock = field(factory=SystemClock, kw_only=True)
    entropy: Entropy = field(factory=system_entropy, kw_only=True, repr=False)
    listeners: Sequence[Listener] | None = field(default=None, kw_only=True)
    tracer: Tracer | None = field(default=None, kw_only=True)
    lane: bool = field(default=True, kw_only=True)
    open_endpoint: Callable[[Connection], OpenEndpoint] | None = field(default=None, kw_only=True)
    broker: Broker = field(kw_only=True, repr=False)
    offload: Offload = field(default=in_thread, kw_only=True, repr=False)
    fetch: Fetch = field(default=fetch, kw_only=True, repr=False)
    authenticator: Authenticator | None = field(default=None, init=False, repr=False)
    _deadlines: Deadlines = field(factory=Deadlines, init=False, repr=False)
    _flusher: Flusher = field(factory=Flusher, init=False, repr=False)
    _established: dict[Connection, None] = field(factory=dict, init=False, repr=False)  # an ordered set
    _drain_begun: trio.Event = field(factory=trio.Event, init=False, repr=False)
    _all_gone: trio.Event = field(factory=trio.Event, init=False, repr=False)
    _stopped: trio.Event = field(factory=trio.Event, init=False, repr=False)

    @broker.default
    def _make_broker(self) -> Broker:
        return Broker(
            self.settings.broker,
            self.entropy,
            server=f"tercet/{__version__}",
            heartbeat=self.settings.timeouts.heartbeat,
        )

    def __attrs_post_init__(self) -> None:
        """Let the flusher settle what was published, and tell the broker who may come in."""
        self.broker.fan_out.settle_soon = self._flusher.call
        self._flusher.settle = self.broker.fan_out.settle
        self.broker.access = _access(self.settings.auth, self.settings.rules)
        if self.settings.auth is not None:
            key = self.entropy.getrandbits(_KEY_BITS).to_bytes(_KEY_BITS // 8, "big")
            self.authenticator = Authenticator(self.settings.auth, self.clock, key, self.offload, self.fetch)

    async def run(
        self, *, signals: bool = False, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until drained or cancelled; to be called once.

        `task_status` gets the URLs once connections are accepted there. With
        `signals`, the first SIGTERM or SIGINT drains and the second stops at
        once; both end in a normal return.

        Raises:
            OSError: a listener cannot be opened.
        """
        services = self._services()
        async with AsyncExitStack() as stack:
            listeners = self.listeners
            if listeners is None:
                listeners = await stack.enter_async_context(open_listeners(self.settings.listeners))
            async with trio.open_nursery() as daemon:
                for service in (self._flusher.run, self._deadlines.run, self._sweep):
                    daemon.start_soon(service)
                if self.authenticator is not None:
                    await daemon.start(self.authenticator.run)
                if signals:
                    await daemon.start(obey_signals, self.drain, daemon.cancel_scope.cancel)
                async with trio.open_nursery() as connections:
                    for listener in listeners:
                        connections.start_soon(
                            accept_forever, listener, self._server(connections, services, listener.path)
                        )
                    urls = tuple(listener.url for listener in listeners)
                    log.info("listening", urls=urls)
                    task_status.started(urls)
                    await self._drain_begun.wait()
                    await self._drain_connections()
                    connections.cancel_scope.cancel()
                daemon.cancel_scope.cancel()
        self._stopped.set()
        log.info("stopped")

    def _services(self) -> Services:
        open_endpoint = self.open_endpoint
        if open_endpoint is None:

            def open_endpoint(connection: Connection) -> OpenEndpoint:
                return SessionEndpoint.open(self.broker, self.clock, connection, connection.arrival)

        return Services(
            open_endpoint=open_endpoint,
            max_message=self.settings.broker.limits.message_bytes,
            timeouts=self.settings.timeouts,
            flusher=self._flusher,
            deadlines=self._deadlines,
            is_draining=self._drain_begun.is_set,
            clock=self.clock,
            authenticator=self.authenticator,
            tracer=self.tracer,
            lane=self.lane,
        )

    def _server(self, connections: trio.Nursery, services: Services, path: str) -> Callable[[Wire], None]:
        """Return what starts the task of a new connection."""

        def serve(wire: Wire) -> None:
            connection = Connection(wire, services, path, established=self._enter, ended=self._leave)
            connections.start_soon(connection.serve)

        return serve

    def _enter(self, connection: Connection) -> None:
        self._established[connection] = None

    def _leave(self, connection: Connection) -> None:
        self._established.pop(connection, None)
        if self._drain_begun.is_set() and not self._established:
            self._all_gone.set()

    async def _sweep(self) -> None:
        """Let the core let go of what has expired, once a second."""
        while True:
            await trio.sleep(_SWEEP)
            for _ in self.broker.sweep(self.clock.moment().now):
                await trio.lowlevel.checkpoint()

    # Who may come in, and do what

    def set_access(self, auth: AuthSettings | None, rules: tuple[Rule, ...]) -> None:
        """Put other settings for authentication and other rules into place, in one step.

        Connections go on. A subscription that is not allowed any more ends
        with `unsubscribed` and `forbidden`; who was known by a token or an
        issuer that is gone, or is anonymous where that is not wanted any more,
        is closed with 3000. Whether there is authentication at all cannot be
        changed.

        Raises:
            OSError, ValueError: a key file cannot be used, or there was no
                `auth` and now there is, or the other way round. Then nothing has changed.
        """
        moment = self.clock.moment()
        access = _access(auth, rules)
        if self.authenticator is None or auth is None:
            if self.authenticator is not None or auth is not None:
                raise ValueError("authentication can only be turned on or off by a restart")
            self.broker.set_rules(access.rules)
        else:
            self.broker.set_access(access, self.authenticator.replace(auth), moment)

    # The planned stop

    def drain(self) -> None:
        """Begin to stop: `run` will return after the drain window, or sooner if nobody is connected.

        Clients are told when to come back, publishes are refused, and each
        connection is closed with 1012 at a random moment of the window.
        Calling it again changes nothing.
        """
        if self._drain_begun.is_set():
            return
        window = self.settings.timeouts.drain
        now = trio.current_time()
        self.broker.drain(lambda: round(self.entropy.uniform(0, window), 3))
        for connection in self._established:
            connection.drain(now + self.entropy.uniform(0, window))
        if not self._established:
            self._all_gone.set()
        self._drain_begun.set()

    async def stop(self) -> None:
        """Drain, and wait until `run` is about to return. Cancelling it does not undo the drain."""
        self.drain()
        await self._stopped.wait()

    async def _drain_connections(self) -> None:
        """Wait until all are gone, or had the time for it."""
        timeouts = self.settings.timeouts
        with trio.move_on_after(timeouts.drain + timeouts.close):
            await self._all_gone.wait()

    def statistics(self) -> BrokerStatistics:
        """Return the broker's counts as they are now."""
        return self.broker.statistics()


def _access(auth: AuthSettings | None, rules: tuple[Rule, ...]) -> Access:
    if auth is None:
        return Access(Rules(rules))
    return Access(Rules(rules), takes_tokens=True, required=auth.required, grace=auth.grace)


@asynccontextmanager
async def open_daemon(daemon: Daemon) -> AsyncIterator[tuple[str, ...]]:
    """Run a daemon beside a block of code, which gets its URLs.

    Raises what the block raises, and OSError where a listener cannot be
    opened: no group, for there is nothing beside it. Leaving the block cuts
    whoever is still connected; await `Daemon.stop` in it to say goodbye
    first. If the daemon fails, the block is cancelled.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield await nursery.start(daemon.run)
        except Exception as error:  # noqa: BLE001 - raised again outside the nursery
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure

"""The daemon: the nursery tree that supervises everything, and its planned end.

    daemon                       signals, sweeper, deadlines, flusher, changes of access
    └─ connections               outlives the listeners' clients
       ├─ listener, each         accepts; while draining it turns newcomers away with 503
       └─ connection, each       one nursery a socket
          ├─ reader              trio-websocket's task, reading from the link
          └─ drainer             only while the socket does not take more, or a replay is not through

Cancelling `run` at any await closes every socket and leaves no task behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog
import trio
from attrs import define, evolve, field

from .. import __version__
from ..core import Access, Broker, Entropy, Rule, Rules
from .admission import Admission, TurnedAwayError
from .authenticator import Authenticator
from .clock import Clock, SystemClock, system_entropy
from .connection import Connection, OpenEndpoint, Services
from .doorway import Doorway
from .endpoint import SessionEndpoint
from .failures import Failures
from .flusher import Flusher
from .handshake import refusal_of
from .keepalive import Deadlines
from .key_set import Fetch, fetch
from .listeners import Listener, SocketListener, accept_forever, open_listeners
from .memory import memory_share, resident_bytes
from .meter import Bucket, Meters
from .offload import Offload, in_thread
from .reloading import prepare_listeners
from .service_manager import ServiceManager
from .settings import AuthSettings, DaemonSettings
from .signals import obey_signals
from .statistics import DaemonStatistics, RateStatistics
from .tracing import Tracer
from .turns import Turns
from .wire import Wire

log = structlog.get_logger("tercet")

_ANNOUNCED = 128  # sessions told of a planned stop before others have their turn
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
        source: reads the settings again at SIGHUP, run by `offload`; raises ValueError or OSError if they are
            wrong. Without it SIGHUP is only logged.
        reload_hooks: what else `reload` concerns. Each is called with the new settings and prepares; it may raise
            ValueError or OSError, and then nothing changes. What it returns is called in the step of the change, and
            must not fail.
        service_manager: is told how we are.
        reloads: how often `reload` has succeeded.
        broker: the core; a new one with nothing in its logs unless given. One that has served before
            (`Broker.reopen`) brings its epochs, logs, retained values and keys with it.
        admission: how many connections there are and may be.
        failures: how many wrong tokens have come from each address.
        meters: what they may ask for.
        offload: runs what takes long, such as verifying a static token or `source`; in a thread unless given.
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
    source: Callable[[], DaemonSettings] | None = field(default=None, kw_only=True, repr=False)
    reload_hooks: list[Callable[[DaemonSettings], Callable[[], None]]] = field(factory=list, init=False, repr=False)
    broker: Broker = field(kw_only=True, repr=False)
    offload: Offload = field(default=in_thread, kw_only=True, repr=False)
    fetch: Fetch = field(default=fetch, kw_only=True, repr=False)
    authenticator: Authenticator | None = field(default=None, init=False, repr=False)
    admission: Admission = field(init=False, repr=False)
    failures: Failures = field(init=False, repr=False)
    meters: Meters = field(init=False, repr=False)
    _deadlines: Deadlines = field(factory=Deadlines, init=False, repr=False)
    _flusher: Flusher = field(factory=Flusher, init=False, repr=False)
    _announcements: Iterator[None] = field(factory=lambda: iter(()), init=False, repr=False)
    _services: Services | None = field(default=None, init=False, repr=False)
    _opened: tuple[SocketListener, ...] = field(default=(), init=False, repr=False)
    _established: dict[Connection, None] = field(factory=dict, init=False, repr=False)  # an ordered set
    _drain_begun: trio.Event = field(factory=trio.Event, init=False, repr=False)
    _all_gone: trio.Event = field(factory=trio.Event, init=False, repr=False)
    service_manager: ServiceManager = field(init=False, repr=False)
    reloads: int = field(default=0, init=False)
    _accepts: Bucket = field(init=False, repr=False)
    _memory: int = field(factory=memory_share, init=False, repr=False)
    _turns: Turns = field(factory=Turns, init=False, repr=False)
    _changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False, repr=False)
    _stopped: trio.Event = field(factory=trio.Event, init=False, repr=False)

    @broker.default
    def _make_broker(self) -> Broker:
        return Broker(
            self.settings.broker,
            self.entropy,
            server=f"tercet/{__version__}",
            heartbeat=self.settings.timeouts.heartbeat,
        )

    @service_manager.default
    def _find_service_manager(self) -> ServiceManager:
        # With listeners that were given it is no process of its own that anybody watches over.
        return ServiceManager.of_environment() if self.listeners is None else ServiceManager()

    def __attrs_post_init__(self) -> None:
        """Join the parts."""
        self.broker.fan_out.settle_soon = self._flusher.call
        self._flusher.fan_out = self.broker.fan_out
        self.broker.begin_reading = self._turns.take_now
        self.broker.changeover.soon = self._changed.unpark
        self.broker.users.limit = self.settings.connections.per_user
        self.broker.access = _access(self.settings.auth, self.settings.rules)
        if self.settings.auth is not None:
            key = self.entropy.getrandbits(_KEY_BITS).to_bytes(_KEY_BITS // 8, "big")
            self.authenticator = Authenticator(self.settings.auth, self.clock, key, self.offload, self.fetch)
        self.admission = Admission(self.settings.connections)
        self.failures = Failures(self.settings.connections.failed_tokens)
        self.meters = Meters(self.settings.rates)
        self._accepts = Bucket(self.settings.connections.accepts, self.settings.connections.accepts, 0.0)

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
        self._services = self._make_services()
        async with AsyncExitStack() as stack:
            listeners = self.listeners
            if listeners is None:
                opened = await stack.enter_async_context(open_listeners(self.settings.listeners))
                self._opened, listeners = opened, opened
            async with trio.open_nursery() as daemon:
                for service in (self._flusher.run, self._deadlines.run, self._sweep, self._carry_out_changes):
                    daemon.start_soon(service)
                if self.authenticator is not None:
                    await daemon.start(self.authenticator.run)
                if self.service_manager.watchdog is not None:
                    daemon.start_soon(self._keep_watchdog_quiet, self.service_manager.watchdog)
                if signals:
                    stop = daemon.cancel_scope.cancel
                    await daemon.start(obey_signals, self.drain, stop, self.reload_from_source)
                async with trio.open_nursery() as connections:
                    for listener in listeners:
                        connections.start_soon(accept_forever, listener, self._server(connections, listener))
                    urls = tuple(listener.url for listener in listeners)
                    log.info("listening", urls=urls)
                    task_status.started(urls)
                    self.service_manager.ready()
                    await self._drain_begun.wait()
                    self.service_manager.stopping()
                    await self._drain_connections()
                    connections.cancel_scope.cancel()
                daemon.cancel_scope.cancel()
        self._stopped.set()
        log.info("stopped")

    def _make_services(self) -> Services:
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
            admission=self.admission,
            failures=self.failures,
            meters=self.meters,
            turns=self._turns,
            established=self._enter,
            ended=self._leave,
            tracer=self.tracer,
            lane=self.lane,
        )

    def _server(self, connections: trio.Nursery, listener: Listener) -> Callable[[Wire], Awaitable[None]]:
        """Return what starts the task of a new connection, or turns it away."""

        async def serve(wire: Wire) -> None:
            doorway = listener.doorway if isinstance(listener, SocketListener) else Doorway(listener.path)
            await self._pace_accepting()
            try:
                ticket = self.admission.enter(None if doorway.trusts(wire.address) else wire.address)
            except TurnedAwayError as error:
                if not wire.is_encrypted:
                    with suppress(trio.BrokenResourceError):
                        wire.try_send(refusal_of(error).response())
                await wire.aclose()
                return
            services = self._services or self._make_services()
            connection = Connection(wire, services, doorway, ticket)
            connections.start_soon(connection.serve)

        return serve

    async def _pace_accepting(self) -> None:
        """Leave newcomers where they wait, in the kernel, while there are more in a second than there may be."""
        bucket, rate = self._accepts, self.settings.connections.accepts
        bucket.rate = bucket.burst = rate
        bucket.fill(trio.current_time())
        bucket.take(1, trio.current_time())
        pause = bucket.wait(0, trio.current_time())
        if pause:
            self.admission.paced += 1
            await trio.sleep(pause)

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
            if self.listeners is None:
                self._look_at_memory()

    async def _keep_watchdog_quiet(self, seconds: float) -> None:
        """Tell the service manager that the loop still turns, twice in so many seconds."""
        while True:
            self.service_manager.alive()
            await trio.sleep(seconds / 2)

    def _look_at_memory(self) -> None:
        """Let nobody in while the process is larger than it may be."""
        ceiling = self.settings.connections.memory_bytes or self._memory
        if ceiling and self.admission.look_at_memory(resident_bytes(), ceiling):
            log.warning(
                "memory: newcomers are turned away" if self.admission.is_short_of_memory else "memory: open again",
                resident_bytes=self.admission.resident_bytes,
                ceiling=ceiling,
            )

    # Reload

    def reload(self, settings: DaemonSettings) -> tuple[str, ...]:
        """Take other settings, all in one step, or none of them; return what of them waits for a restart.

        Connections stay. What concerns a connection as a whole (timeouts,
        certificates, origins) holds for those that come from now on.

        Raises:
            OSError: a certificate or key cannot be used; nothing has changed.
            ValueError: likewise, from `reload_hooks` or `set_access`.
        """
        replacements, waiting = prepare_listeners(self._opened, settings.listeners)
        commits = [prepare(settings) for prepare in self.reload_hooks]
        self.set_access(settings.auth, settings.rules)  # the last step that may fail, and then changes nothing
        for commit in (*commits, *(replacement.commit for replacement in replacements)):
            commit()
        waiting += self.broker.reconfigure(settings.broker)
        self.settings = evolve(settings, broker=self.broker.settings)
        self.broker.users.limit = settings.connections.per_user
        self.broker.heartbeat = settings.timeouts.heartbeat
        self.admission.settings = settings.connections
        self.failures.limit = settings.connections.failed_tokens
        self.meters.change(settings.rates)
        self._services = self._make_services()
        self.reloads += 1
        return waiting

    async def reload_from_source(self) -> None:
        """Reload at SIGHUP; what is wrong is logged, and changes nothing."""
        if self.source is None:
            log.warning("nothing to reload: there is no configuration file")
            return
        self.service_manager.reloading()
        try:
            settings = await self._read_settings(self.source)
            waiting = self.reload(settings)
        except (OSError, ValueError) as error:
            log.error("not reloaded, everything stays as it was", reason=str(error))  # noqa: TRY400 - no bug of ours
        else:
            log.info("reloaded", waiting_for_a_restart=waiting)
        self.service_manager.ready()

    async def _read_settings(self, source: Callable[[], DaemonSettings]) -> DaemonSettings:
        try:
            return await self.offload(source, trio.CapacityLimiter(1))
        except RuntimeError as error:  # for want of a thread
            raise OSError(str(error)) from error

    # Who may come in, and do what

    def set_access(self, auth: AuthSettings | None, rules: tuple[Rule, ...]) -> None:
        """Put other settings for authentication and other rules into force, in one step.

        From then on nothing that they forbid is served or delivered.
        Connections go on. A subscription that is not allowed any more ends
        with `unsubscribed` and `forbidden`; who was known by a token or an
        issuer that is gone, or is anonymous where that is not wanted any more,
        is closed with 3000. These are told one after the other, soon
        (`Changeover`). Whether there is authentication at all cannot be changed.

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
            return
        review = self.authenticator.replace(auth)
        if review is None and evolve(self.broker.access, rules=access.rules) == access:
            self.broker.set_rules(access.rules)
        else:
            self.broker.set_access(access, review or (lambda identity: identity), moment)

    async def _carry_out_changes(self) -> None:
        """Have all sessions comply with what `set_access` has put into force, in slices."""
        while True:
            for _ in self.broker.changeover.steps():
                await trio.lowlevel.checkpoint()
            await self._changed.park()

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
        self._announcements = self.broker.drain(lambda: round(self.entropy.uniform(0, window), 3))
        if not self._established:
            self._all_gone.set()
        self._drain_begun.set()

    async def stop(self) -> None:
        """Drain, and wait until `run` is about to return. Cancelling it does not undo the drain."""
        self.drain()
        await self._stopped.wait()

    async def _drain_connections(self) -> None:
        """Tell all that they have to go, and wait until they have, or had the time for it."""
        timeouts, began = self.settings.timeouts, trio.current_time()
        with trio.move_on_after(timeouts.drain + timeouts.close):
            for number, _ in enumerate(self._announcements, 1):
                if not number % _ANNOUNCED:
                    await trio.lowlevel.checkpoint()
            for connection in self._established:
                connection.drain(began + self.entropy.uniform(0, timeouts.drain))
            await self._all_gone.wait()

    def statistics(self) -> DaemonStatistics:
        """Return all counts as they are now."""
        broker, counters = self.broker.statistics(), self.meters.counters
        found = (connection.statistics() for connection in self._established)
        return DaemonStatistics(
            sessions=broker.sessions,
            namespaces=broker.namespaces,
            opened=broker.opened,
            connections=tuple(one for one in found if one is not None),
            admission=self.admission.statistics(),
            rates=RateStatistics(counters.delayed, counters.refused, counters.closed),
            users=len(self.broker.users),
            tokens_refused=self.failures.refused,
            users_refused=self.broker.users.refused,
            accept_pauses=sum(listener.exhausted for listener in self._opened),
            reloads=self.reloads,
        )


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

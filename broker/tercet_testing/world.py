"""A simulated world: real broker and clients, on a virtual network and a virtual clock, from one seed."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import define, field, frozen

import tercet
from tercet_broker.core import BrokerStatistics, Moment
from tercet_broker.core.accounting import Account
from tercet_broker.runtime import Daemon, DaemonSettings, in_turn
from tercet_protocol import Position

from .books import Books
from .chance import Choices, stream
from .history import History
from .network import Network, SimulatedListener
from .watch import Watch, name_of
from .wiretap import Wiretap

_EPOCH = 1_800_000_000.0  # the world begins in January 2027, in seconds since 1970
_PROGRESS = 180.0  # virtual seconds in which everybody must be back once everything is well


@frozen
class HostClock:
    """A host's clocks: the world's time, and a wall clock that may be wrong.

    Attributes:
        skew: seconds that it is ahead.
        drift: seconds that it gains in a second.
    """

    skew: float = 0.0
    drift: float = 0.0

    def moment(self) -> Moment:
        """Return the present as this host sees it."""
        now = trio.current_time()
        return Moment(now, int((_EPOCH + now * (1 + self.drift) + self.skew) * 1000))


class NeverReachedError(AssertionError):
    """A scenario passed without ever being in the state that it is about."""


class NoProgressError(AssertionError):
    """All faults are healed, and still somebody is stuck."""


def _demand_sync(check: object) -> None:
    """Refuse what is no plain function: a coroutine is always true."""
    if not callable(check) or inspect.iscoroutinefunction(check):
        raise TypeError(f"a check is a plain function without parameters, not {check!r}")


def _names_of(faults: object) -> list[str]:
    if not isinstance(faults, Mapping) or not faults or not all(callable(fault) for fault in faults.values()):
        raise TypeError(f"faults are {{name: async function without parameters}}, at least one; not {faults!r}")
    return list(faults)


@define(eq=False)
class SimulatedBroker:
    """A daemon on a host of the world. `restart` it after a `crash`."""

    simulation: Simulation = field(repr=False)
    host: str
    settings: DaemonSettings
    clock: HostClock
    daemon: Daemon = field(init=False, repr=False)
    wiretap: Wiretap = field(init=False, repr=False)
    is_up: bool = False
    delivered: int = 0  # by all its lives
    lives: int = 0  # how often it was started
    _listener: SimulatedListener = field(init=False, repr=False)
    _scope: trio.CancelScope = field(init=False, repr=False)
    _ended: trio.Event = field(init=False, repr=False)
    _delivered_before: int = 0  # by what its broker remembers of earlier lives

    async def start(self, *, memory: bool = False) -> None:
        """Start the daemon, with nothing in its memory, or with `memory` of all that the one before had published."""
        self.lives += 1
        network = self.simulation.network
        self._listener = network.listen(self.host)
        self.wiretap = Wiretap(self._has_fallen_behind)
        make = functools.partial(
            Daemon,
            self.settings,
            clock=self.clock,
            entropy=stream(self.simulation.seed, f"entropy/{self.host}/{self.lives}"),
            listeners=[self._listener],
            tracer=self.wiretap,
            offload=in_turn,
        )
        if memory:
            remembered = self.daemon.broker
            remembered.reopen()
            self.daemon = make(broker=remembered)
        else:
            self.daemon = make()
        self._delivered_before = self._count_delivered()
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self.simulation.nursery.start(self._run)
        self.is_up = True

    def _has_fallen_behind(self, connection: str) -> bool:
        sessions = {session.label: session for session in self.daemon.broker.sessions}
        return connection not in sessions or sessions[connection].has_fallen_behind

    async def _run(self, *, task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
        try:
            with self._scope:
                await self.daemon.run(task_status=task_status)
        finally:
            self.is_up = False
            self.delivered += self._count_delivered() - self._delivered_before
            self._ended.set()

    def _count_delivered(self) -> int:
        return sum(space.account.delivered for space in self.statistics().namespaces)

    async def crash(self, *, silent: bool = False) -> None:
        """Let it end without a goodbye: its peers get a reset, or nothing if `silent` (the power failed)."""
        network = self.simulation.network
        if silent:
            network.power_off(self.host)
        else:
            network.reset(self.host)
        await self._listener.aclose()
        self._scope.cancel()
        await self._ended.wait()

    async def restart(self, *, memory: bool = False) -> None:
        """Crash it unless it is down, and start it again: a new epoch, an empty log.

        With `memory` it has the epochs, logs, retained values and keys that it
        had, as with a durable history: whatever was acked is there, and who
        resumes recovers. Its connections are gone either way.
        """
        if self.is_up:
            await self.crash()
        await self.start(memory=memory)

    async def drain(self) -> None:
        """Stop it as planned, and wait until it has stopped."""
        self.daemon.drain()
        await self._ended.wait()
        await self._listener.aclose()

    def statistics(self) -> BrokerStatistics:
        """Return the broker's counts as they are now."""
        return self.daemon.statistics()

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield the books of its present life, or of its last one, each with its name."""
        yield from self.daemon.broker.accounts()

    def check_sent(self) -> None:
        """Demand that what was sent keeps to the contract."""
        self.wiretap.check()


@define(eq=False)
class SimulatedSubscription:
    """A subscription that records what it gets."""

    _subscription: tercet.Subscription
    _history: History
    _client: str
    _number: int

    def __aiter__(self) -> SimulatedSubscription:
        return self

    async def __anext__(self) -> tercet.Message:
        try:
            return await self.receive()
        except tercet.ClosedSubscriptionError:
            raise StopAsyncIteration from None

    async def receive(self) -> tercet.Message:
        """Return the next message, as the client does; gaps on the way are recorded."""
        while True:
            event = await self.next_event()
            if isinstance(event, tercet.Message):
                return event

    async def next_event(self) -> tercet.Message | tercet.Gap | tercet.Live:
        """Return the next message, gap or live mark."""
        event = await anext(self._subscription.events())
        self._history.told(self._client, self._number, event)
        return event

    async def events(self) -> AsyncIterator[tercet.Message | tercet.Gap | tercet.Live]:
        """Yield messages, gaps and live marks in their order, until the subscription is closed."""
        while True:
            try:
                event = await self.next_event()
            except tercet.ClosedSubscriptionError:
                return
            yield event

    @property
    def position(self) -> Position | None:
        """Through where the application has been handed messages."""
        return self._subscription.position


@define(eq=False)
class SimulatedClient:
    """A client on a host of the world. It records what it does in the world's history."""

    simulation: Simulation = field(repr=False)
    host: str
    client: tercet.Client = field(repr=False)
    _scope: trio.CancelScope = field(repr=False)

    async def publish(
        self, topic: str, data: object, *, retain: bool = False, echo: bool = True, key: str | None = None
    ) -> tercet.Published:
        """Publish, as `tercet.Client.publish` does."""
        history = self.simulation.history
        number = history.publishing(self.host, topic, data, retain=retain, key=key, echo=echo)
        try:
            published = await self.client.publish(topic, data, retain=retain, echo=echo, key=key)
        except tercet.TercetError as error:
            history.failed(self.host, number, error)
            raise
        history.acked(self.host, number, published)
        return published

    @asynccontextmanager
    async def subscribe(
        self,
        filter: str,  # noqa: A002 - the wire's word
        *,
        since: Position | str | None = None,
        last: int | None = None,
        retained: bool | None = None,
        buffer: int = 1024,
    ) -> AsyncIterator[SimulatedSubscription]:
        """Subscribe, as `tercet.Client.subscribe` does."""
        history = self.simulation.history
        number = history.subscribing(self.host, filter, since=since, last=last, retained=retained)
        async with self.client.subscribe(
            filter, since=since, last=last, retained=retained, buffer=buffer
        ) as subscription:
            history.subscribed(self.host, number)
            try:
                yield SimulatedSubscription(subscription, history, self.host, number)
            finally:
                history.unsubscribed(self.host, number)

    async def ping(self) -> float:
        """Return the virtual seconds that the broker takes to answer."""
        return await self.client.ping()

    def close(self) -> None:
        """Leave, with a goodbye."""
        self._scope.cancel()
        self.simulation.forget(self)

    def kill(self, *, silent: bool = False) -> None:
        """End without a goodbye; nobody hears of it if `silent`."""
        network = self.simulation.network
        if silent:
            network.power_off(self.host)
        else:
            network.reset(self.host)
        self.close()


@define(eq=False)
class Simulation:
    """One run of a scenario; what it is given as `sim`.

    Attributes:
        seed: where all chance comes from.
        network: what lies between the hosts.
        random: the scenario's own stream of chance.
        history: what clients did and got, for the checker.
        faults: the choices of `chaos`.
        delays: the network's.
        books: of all its brokers.
    """

    seed: int
    nursery: trio.Nursery = field(repr=False)
    watch: Watch = field(repr=False)
    faults: Choices = field(repr=False)
    delays: Choices = field(repr=False)
    books: Books = field(repr=False)
    network: Network = field(init=False, repr=False)
    random: random.Random = field(init=False, repr=False)
    history: History = field(factory=History, repr=False)
    reached: dict[str, int] = field(factory=dict)  # {name of a `sometimes`: how often}
    clients: dict[SimulatedClient, None] = field(factory=dict, repr=False)  # an ordered set
    brokers: list[SimulatedBroker] = field(factory=list, repr=False)
    _started: int = field(default=0, init=False)  # clients so far: two lives on one host draw different keys

    def __attrs_post_init__(self) -> None:
        """Lay out the world."""
        self.always(self.books.check)
        self.network = Network(self.delays, self._note)
        self.random = stream(self.seed, "application")

    def _note(self, line: str) -> None:
        self.watch.trace.note(trio.current_time(), line)

    # Who lives in it

    async def broker(
        self, settings: DaemonSettings | None = None, *, host: str = "broker", clock: HostClock | None = None
    ) -> SimulatedBroker:
        """Start a broker on a host; after every step its books are checked, and what it has sent."""
        broker = SimulatedBroker(self, host, settings or DaemonSettings(), clock or HostClock())
        await broker.start()
        self.brokers.append(broker)
        self.books.sources.append(broker.accounts)
        self.always(broker.check_sent)
        return broker

    async def client(
        self, host: str, *, broker: str = "broker", buffer: int = 1024, token: str | None = None
    ) -> SimulatedClient:
        """Start a client on a host; it lives until the scenario ends, or is closed or killed.

        Raises:
            ValueError: there is no broker of that name, yet.
        """
        self.network.demand_listening(broker)
        client = await self.nursery.start(self._run_client, host, broker, buffer, token)
        if not isinstance(client, SimulatedClient):
            raise TypeError(client)
        return client

    async def _run_client(
        self, host: str, broker: str, buffer: int, token: str | None, *, task_status: trio.TaskStatus[SimulatedClient]
    ) -> None:
        async def dial() -> trio.abc.Stream:
            return await self.network.dial(host, broker)

        self._started += 1
        entropy = stream(self.seed, f"entropy/{host}/{self._started}")
        with trio.CancelScope() as scope:
            async with tercet.connect(
                f"ws://{broker}", dial=dial, token=token, entropy=entropy, name=host, wait=True, buffer=buffer
            ) as client:
                simulated = SimulatedClient(self, host, client, scope)
                self.clients[simulated] = None
                task_status.started(simulated)
                await trio.sleep_forever()

    def forget(self, client: SimulatedClient) -> None:
        """Expect nothing of a client any more."""
        if client in self.clients:
            del self.clients[client]
            self.history.left(client.host)

    # Time

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await trio.sleep(seconds)

    # What must hold

    def always(self, check: Callable[[], object]) -> None:
        """Run `check` after every step of every task from now on.

        What it raises fails the run, and so does what it returns, if that is
        false and not None.
        """
        _demand_sync(check)
        self.watch.checks.append(check)

    async def eventually(self, check: Callable[[], object], *, within: float) -> None:
        """Wait until `check()` is true, at most so many virtual seconds.

        Raises:
            NoProgressError: it is not.
        """
        _demand_sync(check)
        with trio.move_on_after(within):
            while not check():  # noqa: ASYNC110 - any step may make it true
                await trio.sleep(0.01)
            return
        raise NoProgressError(f"not within {within:g} s: {name_of(check)}")

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note whether the scenario is in a state that it is about; one that no seed reaches fails."""
        self.reached[name] = self.reached.get(name, 0) + bool(condition)

    # Trouble

    async def chaos(
        self, faults: Mapping[str, Callable[[], Awaitable[None]]], *, times: int, every: tuple[float, float]
    ) -> None:
        """Let so many faults happen, each at a random time after the one before.

        They are numbered choices: a failure is shrunk to the fewest of them.

        Args:
            faults: {name: what lets it happen}.
            times: how many.
            every: least and most virtual seconds between two.

        Raises:
            TypeError: `faults` is something else.
        """
        names = _names_of(faults)
        for _ in range(times):
            bits = self.faults.draw()
            span = every[1] - every[0]
            await trio.sleep(every[0] + (0 if bits is None else (bits >> 32) % 1000 / 1000 * span))
            if bits is None:
                continue
            self.faults.deviate()
            name = names[bits % len(names)]
            self._note(f"chaos: {name}")
            happening = faults[name]()
            if not inspect.isawaitable(happening):
                raise TypeError(f"the fault {name!r} is no async function")
            await happening

    async def settle(self) -> None:
        """Heal everything, and demand that everybody who lives can talk to a broker again, and that all books balance.

        Raises:
            NoProgressError: somebody cannot, after three virtual minutes.
        """
        self.network.heal()
        for broker in self.brokers:
            if not broker.is_up:
                await broker.start()
        for client in list(self.clients):
            with trio.move_on_after(_PROGRESS) as patience:
                await client.client.wait_connected()
                await client.ping()
            if patience.cancelled_caught:
                raise NoProgressError(f"{client.host} is not back {_PROGRESS:g} s after everything was healed")
        self.books.check_all()

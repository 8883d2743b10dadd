"""A network between hosts that exist only by name: latency, rate, bounds, cuts.

A connection behaves like TCP: bytes arrive in order and whole, or not at all;
a partition delays, it does not lose; an end that vanished without a word is
noticed only by timeouts. What travels is cut into segments at random places.
Arrival times are quantised to ticks: arrivals that could race do collide, and
the scheduler decides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import trio
from attrs import define, field

from tercet_broker.runtime import StreamWire, Wire

from .chance import Choices

_HANDSHAKE = 3  # one-way trips until a connection stands
_SYN_TIMEOUT = 127.0  # seconds; Linux, tcp_syn_retries = 6
_BACKLOG = 128
_MAX_SEGMENT = 16 * 1024
_CUT = 10  # one segment in so many is cut short
_ROUNDING = 1e-9  # of a tick: what is on one, up to rounding, stays there


@define(eq=False)
class Link:
    """How bytes travel from one host to another, one way.

    Attributes:
        latency: least and most seconds of a segment's way; each draws its own.
        rate: bytes per second.
        buffer: bytes that may be under way or unread before the sender waits.
        is_cut: whether nothing arrives at present.
    """

    latency: tuple[float, float] = (0.001, 0.030)
    rate: float = math.inf
    buffer: int = 64 * 1024
    is_cut: bool = False


@define(eq=False)
class _Pipe:
    """One direction of one connection."""

    network: Network
    source: str
    target: str
    segments: deque[tuple[float, bytes]] = field(factory=deque)  # (arrival, bytes); b"" is the end
    size: int = 0  # bytes sent and not yet read
    busy_until: float = 0.0  # the link's rate keeps it busy until then
    newest: float = 0.0  # the latest arrival: nothing overtakes it
    is_ended: bool = False  # the sender has said its last
    is_reset: bool = False
    is_dead: bool = False  # nobody at the sending end any more, and nobody told
    changed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    @property
    def link(self) -> Link:
        return self.network.link(self.source, self.target)

    def put(self, data: bytes) -> None:
        """Send a segment on its way."""
        link, now = self.link, trio.current_time()
        self.busy_until = max(now, self.busy_until) + len(data) / link.rate
        arrival = max(self.busy_until + self.network.draw_latency(link), self.newest)
        self.newest = arrival
        self.segments.append((arrival, data))
        self.size += len(data)
        late = "late: " if self.network.was_late else ""
        self.network.note(f"{late}{self.source} -> {self.target}, {len(data)} bytes, arriving at {arrival:.3f}")
        self.changed.unpark_all()

    def delay(self) -> None:
        """A cut has healed: what waited behind it sets out now."""
        now, link = trio.current_time(), self.link
        waited = list(self.segments)
        self.segments.clear()
        self.newest = 0.0
        for arrival, data in waited:
            later = max(arrival, now + self.network.draw_latency(link), self.newest)
            self.newest = later
            self.segments.append((later, data))
        self.changed.unpark_all()

    def reset(self) -> None:
        self.is_reset = True
        self.segments.clear()
        self.network.forget_pipe(self)
        self.changed.unpark_all()


@define(eq=False)
class SimulatedStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    network: Network
    host: str
    incoming: _Pipe
    outgoing: _Pipe
    _rest: bytes = b""
    _is_closed: bool = False
    _is_at_end: bool = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting for room; cancelled, a part may have gone."""
        await trio.lowlevel.checkpoint()
        rest = bytes(data)
        pipe = self.outgoing
        while rest:
            self._check()
            if pipe.size >= pipe.link.buffer or self.network.is_frozen(self.host):
                await pipe.changed.park()
                continue
            room = min(pipe.link.buffer - pipe.size, _MAX_SEGMENT)
            cut = self.network.draw_cut(min(len(rest), room))
            if pipe.is_dead:
                self._send_to_nobody(pipe, cut)
            else:
                pipe.put(rest[:cut])
            rest = rest[cut:]

    def _send_to_nobody(self, pipe: _Pipe, size: int) -> None:
        """Send to a host that has forgotten the connection: no answer while it is down, a reset once it is up."""
        if self.network.is_down(pipe.target):
            pipe.size += size
        else:
            pipe.reset()
            self.incoming.reset()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await trio.lowlevel.checkpoint()
        while self.outgoing.size >= self.outgoing.link.buffer and not self._is_closed:
            await self.outgoing.changed.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, waiting for it."""
        await trio.lowlevel.checkpoint()
        pipe = self.incoming
        while not self._rest:
            if self._is_closed:
                raise trio.ClosedResourceError
            if pipe.is_reset:
                raise trio.BrokenResourceError("connection reset by peer")
            if self._is_at_end:
                return b""
            if not pipe.segments or pipe.link.is_cut or self.network.is_frozen(self.host):
                await pipe.changed.park()
                continue
            arrival = pipe.segments[0][0]
            if arrival > trio.current_time():
                with trio.CancelScope(deadline=arrival):
                    await pipe.changed.park()
                continue
            self._take_arrived(pipe)
        limit = len(self._rest) if max_bytes is None else max_bytes
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    def _take_arrived(self, pipe: _Pipe) -> None:
        now = trio.current_time()
        parts = []
        while pipe.segments and pipe.segments[0][0] <= now:
            data = pipe.segments.popleft()[1]
            if not data:
                self._is_at_end = True
                self.network.forget_pipe(pipe)
                break
            parts.append(data)
        self._rest = b"".join(parts)
        pipe.size -= len(self._rest)
        pipe.changed.unpark_all()

    async def send_eof(self) -> None:
        """Half-close."""
        await trio.lowlevel.checkpoint()
        self._check()
        self._end()

    def _end(self) -> None:
        if not self.outgoing.is_ended:
            self.outgoing.is_ended = True
            if not self.outgoing.is_reset:
                self.outgoing.put(b"")

    def _check(self) -> None:
        if self._is_closed or self.outgoing.is_ended:
            raise trio.ClosedResourceError
        if self.outgoing.is_reset or self.incoming.is_reset:
            raise trio.BrokenResourceError("connection reset by peer")

    async def aclose(self) -> None:
        """Close: the peer reads to the end; what it sends from now on is answered with a reset."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once."""
        if self._is_closed:
            return
        self._is_closed = True
        unread = bool(self._rest) or bool(self.incoming.segments)
        if unread and not self._is_at_end:
            self.outgoing.reset()  # as TCP does: unread input turns a close into a reset
        else:
            self._end()
        self.incoming.reset()
        self.network.forget(self)

    def vanish(self) -> None:
        """Go without a word, as a machine that lost its power."""
        self._is_closed = True
        self.outgoing.is_dead = True
        self.incoming.is_dead = True
        self.outgoing.changed.unpark_all()
        self.incoming.changed.unpark_all()
        self.network.forget(self)

    def abort(self) -> None:
        """Reset both ways, as the kernel does for a process that was killed."""
        self._is_closed = True
        self.outgoing.reset()
        self.incoming.reset()
        self.network.forget(self)


@define(eq=False)
class SimulatedListener:
    """Where a host accepts connections."""

    network: Network
    host: str
    url: str
    path: str = "/"
    _waiting: deque[SimulatedStream] = field(factory=deque)
    _arrived: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)
    _is_closed: bool = False

    def offer(self, stream: SimulatedStream) -> bool:
        """Take a new connection, or refuse it."""
        if self._is_closed or len(self._waiting) >= _BACKLOG:
            return False
        self._waiting.append(stream)
        self._arrived.unpark()
        return True

    async def accept(self) -> Wire:
        """Return the next connection."""
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._is_closed:
                raise trio.ClosedResourceError
            await self._arrived.park()
        stream = self._waiting.popleft()
        return StreamWire(stream, stream.outgoing.target)

    async def aclose(self) -> None:
        """Refuse connections from now on, and reset those that wait."""
        self._is_closed = True
        while self._waiting:
            self._waiting.popleft().abort()
        self._arrived.unpark_all()
        await trio.lowlevel.checkpoint()


@define(eq=False)
class Network:
    """All hosts and what lies between them.

    Attributes:
        choices: the network's stream.
        note: writes a line into the trace.
        tick: seconds to which arrivals are quantised.
    """

    choices: Choices
    note: Callable[[str], None] = field(default=lambda _: None)
    tick: float = 0.010
    was_late: bool = False  # whether the latency that was drawn last is more than the least
    default: Link = field(factory=Link)
    _links: dict[tuple[str, str], Link] = field(factory=dict)  # {(from, to): link}
    _listeners: dict[str, SimulatedListener] = field(factory=dict)  # {host: listener}
    _streams: dict[SimulatedStream, None] = field(factory=dict)  # an ordered set
    _pipes: dict[_Pipe, None] = field(factory=dict)  # an ordered set, of those that may still carry something
    _frozen: dict[str, None] = field(factory=dict)
    _down: dict[str, None] = field(factory=dict)
    _hosts: dict[str, None] = field(factory=dict)  # those that ever listened, dialled or were dialled
    _healed: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    # What connects

    def link(self, source: str, target: str) -> Link:
        """Return the way from one host to another; to be changed in place.

        Raises:
            ValueError: a host is unknown: nobody has listened there or dialled from there.
        """
        self._demand_hosts(source, target)
        return self._link(source, target)

    def _link(self, source: str, target: str) -> Link:
        key = (source, target)
        if key not in self._links:
            like = self.default
            self._links[key] = Link(like.latency, like.rate, like.buffer)
        return self._links[key]

    def listen(self, host: str) -> SimulatedListener:
        """Listen on a host, which has one listener at a time."""
        self._hosts[host] = None
        self._down.pop(host, None)
        listener = self._listeners[host] = SimulatedListener(self, host, f"ws://{host}")
        return listener

    async def dial(self, source: str, target: str) -> SimulatedStream:
        """Connect from one host to another.

        Raises:
            ConnectionRefusedError: nobody listens there.
            TimeoutError: the network is cut for longer than TCP tries.
        """
        self._hosts[source] = self._hosts[target] = None
        self.note(f"{source} dials {target}")
        self._down.pop(source, None)
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(_SYN_TIMEOUT) as patience:
            for trip in range(_HANDSHAKE):
                there = (source, target) if trip % 2 == 0 else (target, source)
                while self.link(*there).is_cut or target in self._down:
                    await self._healed.park()
                await trio.sleep(self.draw_latency(self.link(*there)))
        if patience.cancelled_caught:
            raise TimeoutError(f"{target} does not answer")
        out, back = _Pipe(self, source, target), _Pipe(self, target, source)
        near = SimulatedStream(self, source, back, out)
        far = SimulatedStream(self, target, out, back)
        listener = self._listeners.get(target)
        if listener is None or not listener.offer(far):
            self.note(f"{target} refuses {source}")
            raise ConnectionRefusedError(f"{target} refuses connections")
        for stream in (near, far):
            self._streams[stream] = None
        for pipe in (out, back):
            self._pipes[pipe] = None
        self.note(f"{source} connected to {target}")
        return near

    def forget(self, stream: SimulatedStream) -> None:
        """Take a closed end off the list."""
        self._streams.pop(stream, None)

    def forget_pipe(self, pipe: _Pipe) -> None:
        """Take a direction off the list that was reset, or read to its end."""
        self._pipes.pop(pipe, None)

    def add_host(self, host: str) -> None:
        """Make a host known before it listens or dials: to lay a slow line to it, or to begin with it cut off."""
        self._hosts[host] = None

    def demand_listening(self, host: str) -> None:
        """Raise `ValueError` unless somebody listens, or has listened, on a host."""
        if host not in self._listeners:
            known = ", ".join(map(repr, self._listeners)) or "none: start one with sim.broker()"
            raise ValueError(f"there is no broker {host!r}; those that were started are {known}")

    def _demand_hosts(self, *hosts: str) -> None:
        for host in hosts:
            if host not in self._hosts:
                known = ", ".join(map(repr, self._hosts)) or "none"
                raise ValueError(f"there is no host {host!r}; those that are known are {known}")

    # What goes wrong

    def partition(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Let nothing arrive at `other` from `one`, nor, unless `one_way`, the other way. It arrives after `heal`."""
        self._demand_hosts(one, other)
        if one == other:
            raise ValueError(f"a partition lies between two hosts, and these are one: {one!r}")
        self.note(f"partition {one} {'->' if one_way else '|'} {other}")
        self.link(one, other).is_cut = True
        if not one_way:
            self.link(other, one).is_cut = True

    def heal(self) -> None:
        """Undo all partitions and freezes; what waited behind a cut sets out now."""
        self.note("heal")
        cut = [key for key, link in self._links.items() if link.is_cut]
        for key in cut:
            self._links[key].is_cut = False
        for pipe in self._pipes:
            if (pipe.source, pipe.target) in cut:
                pipe.delay()
        for host in list(self._frozen):
            self.thaw(host)
        self._healed.unpark_all()

    def freeze(self, host: str) -> None:
        """Let a host neither read nor write, while its connections stand."""
        self._demand_hosts(host)
        self.note(f"freeze {host}")
        self._frozen[host] = None

    def thaw(self, host: str) -> None:
        """Undo `freeze`."""
        self._demand_hosts(host)
        self.note(f"thaw {host}")
        self._frozen.pop(host, None)
        for pipe in self._pipes:
            pipe.changed.unpark_all()

    def is_frozen(self, host: str) -> bool:
        """Tell whether a host neither reads nor writes."""
        return host in self._frozen

    def reset(self, host: str) -> None:
        """Reset all connections of a host, as when its process was killed."""
        self._demand_hosts(host)
        self.note(f"reset {host}")
        for stream in [stream for stream in self._streams if stream.host == host]:
            stream.abort()

    def power_off(self, host: str) -> None:
        """Let a host vanish: its peers hear nothing, until they send to a host that is up again."""
        self._demand_hosts(host)
        self.note(f"power off {host}")
        self._down[host] = None
        for stream in [stream for stream in self._streams if stream.host == host]:
            stream.vanish()

    def is_down(self, host: str) -> bool:
        """Tell whether a host has been switched off; it is up again when it listens or dials."""
        return host in self._down

    # Chance

    def draw_latency(self, link: Link) -> float:
        """Return how long a segment takes, so that it arrives on a tick; the least is the default choice."""
        least, most = link.latency
        bits = self.choices.draw()
        now = trio.current_time()
        soonest = math.ceil((now + least) / self.tick - _ROUNDING)
        ticks = soonest
        if bits is not None:
            share = (bits >> 11) / (1 << 53)
            if self.choices.extreme is not None:
                share = 1.0 if share < self.choices.extreme else 0.0
            span = share * (most - least)
            ticks = math.ceil((now + least + span) / self.tick - _ROUNDING)
            if ticks != soonest:
                self.choices.deviate()
        self.was_late = ticks != soonest
        return max(ticks * self.tick - now, 0.0)

    def draw_cut(self, size: int) -> int:
        """Return how many of `size` bytes the next segment takes: mostly all (the default), now and then fewer."""
        bits = self.choices.draw()
        if bits is None or size == 1 or bits % _CUT:
            return size
        self.choices.deviate()
        return 1 + (bits >> 32) % size

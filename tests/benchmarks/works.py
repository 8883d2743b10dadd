"""The works: what a broker is measured at. One table, at the end."""

from __future__ import annotations

from attrs import frozen

SMALL = 128  # bytes of payload
LARGE = 4096

_ALL = ("tercet", "nats", "mosquitto", "naive", "floor")
_BROKERS = ("tercet", "nats", "mosquitto", "naive")
_FAST = ("tercet", "nats")
_CROWD = ("tercet", "nats", "floor")  # how much of the growth is the kernel's
_STEPS = ("naive", "no lane", "no runs", "no passing", "tercet", "floor")


@frozen
class Fanout:
    """Publishers and subscribers of one topic in a closed loop.

    Attributes:
        window: messages in flight.
        wildcards: 1,000 topics; subscribers hold a wildcard each, and 20 match a message.
        other_topics: topics besides that others have subscribed to.
        other_subscriptions: topics besides that every subscriber has subscribed to.
        strangers: connections besides that have subscribed to another topic, on which nothing comes.
    """

    name: str
    group: str
    subscribers: int
    window: int
    publishers: int = 1
    payload: int = SMALL
    tls: bool = False
    history: bool = False
    retain: bool = False
    ack: bool = False
    wildcards: bool = False
    other_topics: int = 0
    other_subscriptions: int = 0
    strangers: int = 0
    peers: tuple[str, ...] = _ALL

    def describe(self) -> str:
        parts = [f"{self.publishers} → {self.subscribers}, {self.payload} B, {self.window} in flight"]
        parts += [name for name in ("tls", "history", "retain", "ack", "wildcards") if getattr(self, name)]
        if self.other_topics:
            parts.append(f"{self.other_topics:,} other topics")
        if self.other_subscriptions:
            parts.append(f"{self.other_subscriptions:,} other subscriptions of each subscriber")
        if self.strangers:
            parts.append(f"{self.strangers:,} connections on another topic")
        return ", ".join(parts)


@frozen
class Paced:
    """One publisher at a steady rate, for latency.

    Attributes:
        rate: deliveries a second.
    """

    name: str
    group: str
    subscribers: int = 100
    rate: int = 20_000
    payload: int = SMALL
    peers: tuple[str, ...] = _BROKERS

    def describe(self) -> str:
        return f"1 → {self.subscribers}, {self.payload} B, {self.rate:,} deliveries a second"


@frozen
class Idle:
    """Connections that are subscribed and do nothing.

    Attributes:
        seconds: how long the broker is watched, a whole interval of heartbeats; 0 for not at all.
    """

    name: str
    group: str
    connections: int = 5000
    seconds: float = 0.0
    peers: tuple[str, ...] = (*_BROKERS, "bare")

    def describe(self) -> str:
        watched = f", watched for {self.seconds:g} s" if self.seconds else ""
        return f"{self.connections:,} subscribed connections that do nothing{watched}"


@frozen
class Arriving:
    """Clients that connect, as fast as the broker lets them."""

    name: str
    group: str
    connections: int = 1000
    tls: bool = False
    peers: tuple[str, ...] = _BROKERS

    def describe(self) -> str:
        return f"{self.connections:,} connections, 64 at a time" + (", tls" if self.tls else "")


@frozen
class Stall:
    """A crowd that gets one message after another, and an unrelated topic whose latency is taken meanwhile."""

    name: str
    group: str
    subscribers: int = 10_000
    interval: float = 0.002
    peers: tuple[str, ...] = _FAST

    def describe(self) -> str:
        return f"another topic's latency while {self.subscribers:,} subscribers get one message after another"


Work = Fanout | Paced | Idle | Arriving | Stall

WORKS: tuple[Work, ...] = (
    Fanout("1-1", "fanout", subscribers=1, window=64),
    Fanout("1-10", "fanout", subscribers=10, window=64),
    Fanout("1-100", "fanout", subscribers=100, window=16),
    Fanout("1-1000", "fanout", subscribers=1000, window=4),
    Fanout("20-100", "fanout", subscribers=100, window=64, publishers=20),
    Paced("latency", "latency"),
    Idle("idle", "idle"),
    Idle("heartbeats", "idle", seconds=25.0, peers=("tercet",)),
    Arriving("connect", "connect"),
    Fanout("crowd-100", "growth", subscribers=100, window=4, peers=_CROWD),
    Fanout("crowd-1000", "growth", subscribers=1000, window=4, peers=_CROWD),
    Fanout("crowd-5000", "growth", subscribers=5000, window=4, peers=_CROWD),
    Fanout("topics-1", "growth", subscribers=100, window=16, other_topics=1, peers=_FAST),
    Fanout("topics-10000", "growth", subscribers=100, window=16, other_topics=10_000, peers=_FAST),
    Fanout("others-0", "growth", subscribers=10, window=64, peers=_FAST),
    Fanout("others-999", "growth", subscribers=10, window=64, other_subscriptions=999, peers=_FAST),
    Fanout("strangers-5000", "growth", subscribers=10, window=64, strangers=5000, peers=_FAST),
    Stall("stall", "stall"),
    Fanout("1-1-4k", "large", subscribers=1, window=64, payload=LARGE),
    Fanout("1-100-4k", "large", subscribers=100, window=16, payload=LARGE),
    Fanout("1-1000-4k", "large", subscribers=1000, window=4, payload=LARGE),
    Fanout("wildcards", "wildcards", subscribers=110, window=64, wildcards=True, peers=("tercet", "nats", "mosquitto")),
    Fanout("1-1-wss", "wss", subscribers=1, window=64, tls=True, peers=_BROKERS),
    Fanout("1-100-wss", "wss", subscribers=100, window=16, tls=True, peers=_BROKERS),
    Fanout("20-100-wss", "wss", subscribers=100, window=64, publishers=20, tls=True, peers=_BROKERS),
    Arriving("connect-wss", "wss", tls=True),
    Fanout("1-1-ack", "options", subscribers=1, window=64, ack=True, peers=("tercet",)),
    Fanout("1-100-ack", "options", subscribers=100, window=16, ack=True, peers=("tercet",)),
    Fanout("1-1-history", "options", subscribers=1, window=64, history=True, peers=("tercet",)),
    Fanout("1-100-history", "options", subscribers=100, window=16, history=True, peers=("tercet",)),
    Fanout("1-1-retain", "options", subscribers=1, window=64, retain=True, peers=("tercet", "mosquitto")),
    Fanout("1-100-retain", "options", subscribers=100, window=16, retain=True, peers=("tercet", "mosquitto")),
    Fanout("steps-1-1", "steps", subscribers=1, window=64, peers=_STEPS),
    Fanout("steps-1-10", "steps", subscribers=10, window=64, peers=_STEPS),
    Fanout("steps-1-100", "steps", subscribers=100, window=16, peers=_STEPS),
    Fanout("steps-1-1000", "steps", subscribers=1000, window=4, peers=_STEPS),
    Fanout("steps-20-100", "steps", subscribers=100, window=64, publishers=20, peers=_STEPS),
)

GROUPS = tuple(dict.fromkeys(work.group for work in WORKS))
BAR_GROUPS = ("fanout", "latency", "idle", "connect", "growth", "stall")

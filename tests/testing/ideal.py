"""An ideal broker and its clients, much simplified: random histories that are correct by construction.

It has no connections and no bytes. A publish is begun, committed (perhaps more
than once, as after a lost ack) and acknowledged in separate steps, so that
publishes overlap; what a subscription is due stands in its queue until some
later step hands it out. A break loses the end of the queue, or of everything
in the broker.
"""

from __future__ import annotations

import random

from attrs import define, evolve, field

from tercet_protocol import Position, parse_filter
from tercet_testing.events import (
    Acked,
    Delivered,
    Event,
    Failed,
    GapTold,
    Left,
    LiveTold,
    Publishing,
    Subscribed,
    Subscribing,
    Unsubscribed,
)

CLIENTS = ("ann", "bob", "cat")
TOPICS = ("a/x", "a/y", "a/y/z", "b/x")
FILTERS = ("a/#", "a/x", "a/+", "b/#", "#", "+/x")
KEPT = 6
Record = tuple[int, Publishing]  # seq, what was published


@define(eq=False)
class Space:
    """A namespace."""

    epoch: str
    log: list[Record] = field(factory=list)
    head: int = 0
    retained: dict[str, Record] = field(factory=dict)
    keys: dict[tuple[object, ...], tuple[int, float]] = field(factory=dict)  # {key: (seq, when)}


@define(eq=False)
class Open:
    """A publish in flight."""

    event: Publishing
    position: Position | None = None  # of its last commit
    duplicate: bool = False


@define(eq=False)
class Stream:
    """A subscription: `queue` is under way to the application."""

    event: Subscribing
    queue: list[Event] = field(factory=list)
    reached: Position | None = None
    is_accepted: bool = False
    is_attached: bool = False


@define(eq=False)
class Ideal:
    """The broker, its clients, and what they record."""

    chance: random.Random
    events: list[Event] = field(factory=list)
    now: float = 0.0
    spaces: dict[str, Space] = field(factory=dict)
    open: list[Open] = field(factory=list)
    streams: list[Stream] = field(factory=list)
    numbers: int = 0
    epochs: int = 0

    def run(self, steps: int) -> list[Event]:
        """Return a history of so many steps, quiet at its end."""
        acts = [
            *[self.begin] * 6,
            *[self.commit] * 8,
            *[self.ack] * 8,
            *[self.read] * 30,
            *[self.subscribe] * 2,
            *[self.attach] * 6,
            self.fail,
            self.unsubscribe,
            self.detach,
            self.overflow,
        ]
        self.restart()
        for _ in range(steps):
            self.now += self.chance.choice((0.0, 0.01, 1.0, 20.0))
            if self.chance.random() < 0.01:
                self.restart()
            self.chance.choice(acts)()
        while any(stream.queue or not stream.is_attached for stream in self.streams):
            self.attach()
            self.read()
        return self.events

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    # Publishes

    def begin(self) -> None:
        client, key = self.chance.choice(CLIENTS), None
        topic, data = self.chance.choice(TOPICS), b"%d" % self.chance.choice((1, 2, self.numbers))
        if self.chance.random() < 0.3:
            key = f"{client} {topic} {data.decode()}"
        retain = self.chance.random() < 0.4
        if retain and self.chance.random() < 0.2:
            data, key = b"null", None
        echo = self.chance.random() < 0.8
        self.open.append(Open(Publishing(self.now, client, self.number(), topic, data, retain, key, echo)))
        self.events.append(self.open[-1].event)

    def commit(self) -> None:
        """Publish something that is open: for the first time, or again."""
        if not self.open:
            return
        publish = self.chance.choice(self.open)
        event = publish.event
        space = self.spaces[event.topic[0]]
        key = (event.client, event.key if event.key is not None else event.number)
        seq, when = space.keys.get(key, (0, -1e9))
        if self.now - event.at >= 290:
            return  # its client does not repeat it so late
        publish.duplicate = self.now - when < 300
        if not publish.duplicate:
            space.head = seq = space.head + 1
            space.keys[key] = (seq, self.now)
            record = (seq, event)
            space.log = [*space.log, record][-KEPT:]
            if event.retain:
                space.retained[event.topic] = record
                if event.data == b"null":
                    del space.retained[event.topic]
            for stream in self.streams:
                if stream.is_attached:
                    self.offer(stream, record)
        publish.position = Position(space.epoch, seq)

    def ack(self) -> None:
        done = [publish for publish in self.open if publish.position is not None]
        if done:
            publish = self.chance.choice(done)
            assert publish.position is not None
            event = publish.event
            self.open.remove(publish)
            self.events.append(Acked(self.now, event.client, event.number, publish.position, publish.duplicate))

    def fail(self) -> None:
        if self.open:
            publish = self.open.pop(self.chance.randrange(len(self.open)))
            refused = publish.position is None and self.chance.random() < 0.5
            self.events.append(Failed(self.now, publish.event.client, publish.event.number, "so it goes", refused))

    # Subscriptions

    def subscribe(self) -> None:
        filter_ = self.chance.choice(FILTERS)
        since, last, retained = None, None, self.chance.choice((None, None, False))
        if filter_[0] in "+#":
            retained = None
        elif self.chance.random() < 0.3:
            last = self.chance.randint(0, KEPT)
        elif self.chance.random() < 0.4:
            space = self.spaces[filter_[0]]
            since = Position(space.epoch, self.chance.randint(0, space.head + 1))
        event = Subscribing(self.now, self.chance.choice(CLIENTS), self.number(), filter_, since, last, retained)
        self.events.append(event)
        self.streams.append(Stream(event, reached=since))

    def attach(self) -> None:
        """Let a subscription begin, or be resumed."""
        waiting = [stream for stream in self.streams if not stream.is_attached]
        if not waiting:
            return
        stream = self.chance.choice(waiting)
        event, stream.is_attached = stream.event, True
        if not stream.is_accepted:
            self.events.append(Subscribed(self.now, event.client, event.number))
        namespace = parse_filter(event.filter).namespace
        if namespace is None:
            if stream.is_accepted:
                stream.queue.append(self.gap(stream, None, None, None, None, "reconnected"))
            stream.is_accepted = True
            return
        stream.is_accepted = True
        space = self.spaces[namespace]
        cursor, is_recovered = self.locate(stream, namespace)
        values = [] if event.retained is False or is_recovered else list(space.retained.values())
        log = [record for record in space.log if record[0] > cursor and self.wants(stream, record)]
        if event.last is not None and stream.reached is None:
            log = [record for record in space.log if self.wants(stream, record)]
            log = log[max(len(log) - event.last, 0) :]
        since, replayed = stream.reached, {seq for seq, _ in log}
        reached = since.seq if since is not None and since.epoch == space.epoch and since.seq <= space.head else 0
        for record in sorted([*log, *values], key=lambda record: record[0]):
            is_value = record[0] not in replayed
            replayed.add(record[0])
            if record in log and not is_value:
                log.remove(record)
            elif not (is_value and reached < record[0] <= cursor and self.wants(stream, record)):
                continue
            stream.queue.append(self.delivery(stream, record, retained=is_value))
        stream.reached = Position(space.epoch, space.head)
        stream.queue.append(LiveTold(self.now, event.client, event.number, stream.reached))

    def locate(self, stream: Stream, namespace: str) -> tuple[int, bool]:
        """Return after which seq the log is replayed, and whether nothing is lost; tell what is."""
        space, since = self.spaces[namespace], stream.reached
        first = space.head + 1 - len(space.log)
        if since is None:
            return space.head, False
        after, cursor, reason = since.seq, first - 1, "expired"
        if since.epoch != space.epoch:
            after, reason = 0, "epoch"
        elif since.seq > space.head:
            after, cursor, reason = space.head, space.head, "unknown_position"
        elif since.seq >= first - 1:
            return since.seq, True
        stream.queue.append(self.gap(stream, namespace, space.epoch, after, cursor, reason))
        return cursor, False

    def wants(self, stream: Stream, record: Record) -> bool:
        event = record[1]
        is_muted = event.client == stream.event.client and not event.echo
        return parse_filter(stream.event.filter).matches(event.topic) and not is_muted

    def offer(self, stream: Stream, record: Record) -> None:
        if self.wants(stream, record):
            stream.queue.append(self.delivery(stream, record))
        if parse_filter(stream.event.filter).namespace == record[1].topic[0]:
            stream.reached = Position(self.spaces[record[1].topic[0]].epoch, record[0])

    def delivery(self, stream: Stream, record: Record, *, retained: bool = False) -> Delivered:
        seq, event = record
        is_known = parse_filter(stream.event.filter).namespace is not None
        epoch = self.spaces[event.topic[0]].epoch if is_known else None
        number = stream.event.number
        return Delivered(self.now, stream.event.client, number, event.topic, seq, epoch, event.data, retained)

    def gap(
        self,
        stream: Stream,
        namespace: str | None,
        epoch: str | None,
        after: int | None,
        through: int | None,
        reason: str,
    ) -> GapTold:
        return GapTold(self.now, stream.event.client, stream.event.number, namespace, epoch, after, through, reason)

    def read(self) -> None:
        full = [stream for stream in self.streams if stream.queue]
        if full:
            self.events.append(evolve(self.chance.choice(full).queue.pop(0), at=self.now))

    def unsubscribe(self) -> None:
        if self.streams and self.chance.random() < 0.3:
            stream = self.streams.pop(self.chance.randrange(len(self.streams)))
            if stream.is_accepted and self.chance.random() < 0.9:
                self.events.append(Unsubscribed(self.now, stream.event.client, stream.event.number))
            else:
                gone = stream.event.client
                self.events.append(Left(self.now, gone))
                self.streams = [stream for stream in self.streams if stream.event.client != gone]

    # Trouble

    def overflow(self) -> None:
        """Drop the live messages at the end of a queue, and tell of it."""
        if not self.streams:
            return
        stream = self.chance.choice(self.streams)
        dropped: list[Delivered] = []
        while stream.queue and len(dropped) < 3:
            event = stream.queue[-1]
            if not isinstance(event, Delivered) or event.retained:
                break
            dropped.append(event)
            stream.queue.pop()
        if not dropped or not stream.is_attached:
            stream.queue += reversed(dropped)
        elif dropped[0].epoch is None:
            stream.queue.append(self.gap(stream, None, None, None, None, "overflow"))
        else:
            newest, oldest = dropped[0], dropped[-1]
            namespace = newest.topic[0]
            stream.queue.append(self.gap(stream, namespace, newest.epoch, oldest.seq - 1, newest.seq, "overflow"))

    def detach(self) -> None:
        if self.streams:
            self.cut(self.chance.choice(self.streams))

    def cut(self, stream: Stream) -> None:
        """Lose the end of what is under way; a subscription is resumed from what has arrived."""
        if not stream.is_attached:
            return
        stream.is_attached = False
        namespace = parse_filter(stream.event.filter).namespace
        keep = self.chance.randint(0, len(stream.queue))
        if any(isinstance(event, GapTold | LiveTold) or event.retained for event in stream.queue[keep:]):  # type: ignore[union-attr]
            return  # it has arrived whole: only the ends of live messages are lost here
        if namespace is not None and len(stream.queue) > keep:
            lost = stream.queue[keep]
            assert isinstance(lost, Delivered)
            assert lost.epoch is not None
            stream.reached = Position(lost.epoch, lost.seq - 1)
        del stream.queue[keep:]

    def restart(self) -> None:
        """Forget everything."""
        for stream in self.streams:
            self.cut(stream)
        self.epochs += 1
        for name in "ab":
            self.spaces[name] = Space(f"e{self.epochs}")

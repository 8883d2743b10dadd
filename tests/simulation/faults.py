"""Planted faults: realistic mistakes, each a patch of product code, that the simulation has to find.

Each is a subtly wrong stand-in for one method. `docs/reference/planted-faults.md`
says after how many seeds each is found; `python -m tests.simulation.planted`
writes it.
"""

# ruff: noqa: SLF001 - a fault sits where the code is private

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import trio
from attrs import frozen
from tests.simulation import (
    test_draining,
    test_fair_weather,
    test_positions,
    test_publishing,
    test_reconnecting,
    test_revoking,
    test_slow_subscribers,
    test_subscribing,
)

from tercet._feed import Feed
from tercet._link import Link as ClientLink
from tercet._message import Message
from tercet._publisher import Publisher
from tercet_broker.core import positions, reading, subscribing
from tercet_broker.core.broker import Broker
from tercet_broker.core.changeover import Changeover, Hits, Outlook
from tercet_broker.core.errors import RefusedError
from tercet_broker.core.keys import KeyMemory
from tercet_broker.core.log import Log, Record
from tercet_broker.core.matching import FilterIndex
from tercet_broker.core.moment import Moment
from tercet_broker.core.namespace import Namespace
from tercet_broker.core.outbox import Outbox
from tercet_broker.core.queued import Delivery, LossNotice
from tercet_broker.core.reading import Start
from tercet_broker.core.replay import Loss, Replay
from tercet_broker.core.retained import RetainedValues
from tercet_broker.core.session import Session
from tercet_broker.core.topic import Topic
from tercet_broker.runtime.connection import Connection, OpenEndpoint
from tercet_broker.runtime.flusher import Flusher
from tercet_broker.runtime.link import Link
from tercet_broker.runtime.sending import Sending
from tercet_protocol import (
    Filter,
    GapReason,
    PongEvent,
    Position,
    Publish,
    Published,
    Subscribed,
    encode,
    encode_text_frame,
    split_topic,
)


@frozen
class Fault:
    """One mistake.

    Attributes:
        name: what it is called.
        what: what is wrong, in one sentence.
        scenario: the decorated test that has to find it.
        patches: (where, name, what stands in for it).
    """

    name: str
    what: str
    scenario: Any
    patches: tuple[tuple[object, str, object], ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the fault for the length of a block."""
        with ExitStack() as stack:
            for where, name, stand_in in self.patches:
                stack.enter_context(mock.patch.object(where, name, stand_in))
            yield

    def __str__(self) -> str:
        return self.name


def _later(action: Callable[[], None]) -> None:
    """Do something in another step than this one."""

    async def step() -> None:
        await trio.lowlevel.checkpoint()
        action()

    trio.lowlevel.spawn_system_task(step)


# Subscribing and replaying

_add, _remove = FilterIndex.add, FilterIndex.remove
_unattached: list[tuple[FilterIndex[Outbox], Filter, Outbox]] = []


def _attach_later(self: FilterIndex[Outbox], filter_: Filter, outbox: Outbox) -> None:
    entry = (self, filter_, outbox)
    _unattached.append(entry)

    def attach() -> None:
        if entry in _unattached:
            _unattached.remove(entry)
            _add(self, filter_, outbox)

    _later(attach)


def _detach_or_forget(self: FilterIndex[Outbox], filter_: Filter, outbox: Outbox) -> None:
    if (self, filter_, outbox) in _unattached:
        _unattached.remove((self, filter_, outbox))
    else:
        _remove(self, filter_, outbox)


def _detach_exact_only(self: FilterIndex[Outbox], filter_: Filter, outbox: Outbox) -> None:
    if filter_.is_exact:
        _remove(self, filter_, outbox)


def _done_one_early(self: Replay) -> bool:
    return self._is_in_run and self.cursor >= self.namespace.log.head - 1


_after = Log.after


def _after_and_itself(self: Log, seq: int, limit: int) -> Iterator[Record]:
    return _after(self, seq - 1, limit)


_take_gap = Replay.take_gap


def _move_on_without_a_word(self: Replay) -> None:
    _take_gap(self)


_locate = reading.locate


def _locate_by_seq(namespace: Namespace, since: Position, *rest: Any) -> tuple[int, Loss | None]:
    return _locate(namespace, Position(namespace.epoch, since.seq), *rest)


def _locate_what_is_left(namespace: Namespace, since: Position, *rest: Any) -> tuple[int, Loss | None]:
    cursor, loss = _locate(namespace, since, *rest)
    return cursor, None if loss is not None and loss.reason is GapReason.EXPIRED else loss


_start_replay = reading.start_replay


def _start_replay_for_anyone(*args: Any, **options: Any) -> Start:
    return _start_replay(*args, **{**options, "connection": 0})


_keep = RetainedValues.keep


def _keep_only_the_first(self: RetainedValues, record: Record) -> None:
    if record.topic.retained is None:
        _keep(self, record)
    else:
        self.forget(record.topic.retained)


# Publishing

_publish = Session._publish


def _ack_and_publish_later(self: Session, request: Publish, moment: Moment) -> None:
    if request.id is not None and not self.broker.is_draining:
        namespace = self.broker.namespace(split_topic(request.topic)[0])
        self.send(Published(id=request.id, epoch=namespace.epoch, seq=namespace.log.head + 1))
        request.id = None

    def publish() -> None:
        with contextlib.suppress(RefusedError):
            _publish(self, request, moment)

    _later(publish)


def _publish_while_draining(self: Session, request: Publish, moment: Moment) -> None:
    was_draining, self.broker.is_draining = self.broker.is_draining, False
    try:
        _publish(self, request, moment)
    finally:
        self.broker.is_draining = was_draining


_fan_out = Namespace._fan_out


def _fan_out_later(self: Namespace, topic: Topic, record: Record, origin: Outbox) -> None:
    _later(lambda: _fan_out(self, topic, record, origin))


def _tell_position_and_fan_out(self: Namespace, topic: Topic, record: Record, origin: Outbox) -> None:
    self.watch.look(record.at, self.log.head)
    _fan_out(self, topic, record, origin)


_remember = KeyMemory.remember


def _remember_for_half_the_time(self: KeyMemory, *args: Any, now: float, **options: Any) -> None:
    _remember(self, *args, now=now - self.seconds / 2, **options)


# Sending

_reopen = Broker.reopen


def _reopen_and_forget_keys(self: Broker) -> None:
    _reopen(self)
    for namespace in self._namespaces.values():
        namespace.keys._entries.clear()


_drain = Link._drain


async def _drain_and_dawdle(self: Link) -> None:
    await _drain(self)
    self._sending = Sending.DRAINING
    await trio.lowlevel.checkpoint()  # what is queued in here finds a drainer that has looked already
    self._sending = Sending.DIRECT


async def _flush_and_forget_latecomers(self: Flusher) -> None:
    while True:
        if not self._is_called:
            await self._lot.park()
        self._is_called = False
        self.fan_out.settle()
        for link in [*self._ready, *self._crowd]:
            link.flush(trio.current_time())
        await trio.lowlevel.checkpoint()
        self._ready, self._crowd = [], []


_sent = Outbox.sent


def _note_all_sent(self: Outbox, count: int) -> None:
    _sent(self, len(self.peek(count + 1)) if count else 0)


def _overflow_and_go_on(self: Session, delivery: Delivery) -> bool:
    self.outbox.refuse(delivery)
    self.outbox.clear()
    return True


_fall_behind, _offer_newest, _notify = Session._fall_behind, Outbox.offer_newest, Outbox.notify


def _fall_behind_and_miss(self: Session, namespace: Namespace, seq: int) -> None:
    _fall_behind(self, namespace, seq + 1)


def _fall_behind_and_repeat(self: Session, namespace: Namespace, seq: int) -> None:
    _fall_behind(self, namespace, max(seq - 1, 0))


def _drop_without_a_word(self: LossNotice, *_: int) -> None:
    """Leave a frame in the place of the gap that says nothing."""
    self.frame = encode_text_frame(encode(PongEvent()))


def _keep_the_oldest(self: Outbox, record: Record) -> bool:
    place = self.newest.get(record.topic.name)
    if place is None:
        return _offer_newest(self, record)
    for books in (self.account, record.account):
        books.offered += 1
        books.conflated += 1
    return True


def _notify_and_keep_places(self: Outbox, frame: bytes) -> None:
    places = self.newest
    _notify(self, frame)
    self.newest = places


# The end of connections

_serve, _let_go = Connection.serve, Connection._let_go
_cut: set[int] = set()  # the ids of connections that did not end well


def _note_and_let_go(self: Connection) -> None:
    if self._link is not None and self._link._sending is Sending.BROKEN:
        _cut.add(id(self))
    _let_go(self)


@functools.wraps(_serve)
async def _serve_and_wait(self: Connection) -> None:
    await _serve(self)
    if id(self) in _cut:
        _cut.remove(id(self))
        await trio.sleep_forever()  # for a goodbye from someone who has gone


_look_at_life = Connection._look_at_life


def _ping_again(self: Connection, now: float, link: Link, endpoint: OpenEndpoint) -> float:
    self._pinged_at = None
    return _look_at_life(self, now, link, endpoint)


# The client

_feed_detach = Feed.detach


def _detach_and_clear(self: Feed) -> None:
    _feed_detach(self)
    self.buffer.clear()


_take = Feed._take


def _take_and_be_where_the_buffer_ends(self: Feed) -> object:
    event = _take(self)
    if event is not None:
        self.position = self._track.reached
    return event


_delivered = Feed.delivered


def _move_on_before_there_is_room(self: Feed, message: Message) -> bool:
    if not self._track.is_repeat(message.seq) and not self.buffer.fits(message):
        self._track.delivered(message.seq)
        return False
    return _delivered(self, message)


_subscribed = Feed.subscribed


def _subscribed_as_if_first(self: Feed, event: Subscribed) -> None:
    self._was_live = False
    _subscribed(self, event)


def _send_the_newest_first(self: Publisher, link: ClientLink) -> None:
    self._link = link
    self._key_seconds = link.limits.key_seconds
    self._notify()
    self._expire()
    for entry in reversed(tuple(self._outstanding.values())):
        self.resent += entry.first_sent is not None
        self._send(link, entry)


_regrant = Session._regrant


def _regrant_newcomers(self: Session, outlook: Outlook) -> None:
    if not self.subscriptions:
        _regrant(self, outlook)


def _target_all(self: Changeover, topic: Topic, find: Callable[[], Hits]) -> dict[Outbox, None]:
    return {outbox: None for _, outboxes in find() for outbox in outboxes}


FAULTS = (
    Fault(
        "subscribe in two steps",
        "A subscribe takes its snapshot in one step and attaches to the live messages in another.",
        test_subscribing.test_subscribes_racing_with_publishes,
        ((FilterIndex, "add", _attach_later), (FilterIndex, "remove", _detach_or_forget)),
    ),
    Fault(
        "replay misses one",
        "A replay is taken for complete one message before the head.",
        test_reconnecting.test_reconnect_storm,
        ((Replay, "is_done", property(_done_one_early)),),
    ),
    Fault(
        "replay overlaps by one",
        "Each page of a replay begins with the message that the one before ended with.",
        test_subscribing.test_replays_racing_with_a_log_that_is_trimmed,
        ((Log, "after", _after_and_itself),),
    ),
    Fault(
        "overrun without a gap",
        "A replay that the log has overrun goes on behind the loss and does not tell it.",
        test_subscribing.test_replays_racing_with_a_log_that_is_trimmed,
        ((Replay, "take_gap", _move_on_without_a_word),),
    ),
    Fault(
        "expiry without a gap",
        "A resume from before the log begins where the log begins, and says that it recovered.",
        test_reconnecting.test_resume_from_a_log_that_went_on,
        ((reading, "locate", _locate_what_is_left),),
    ),
    Fault(
        "epoch forgotten at resume",
        "A resume looks at the seq of a position and not at its epoch.",
        test_reconnecting.test_broker_crashes_and_comes_back,
        ((reading, "locate", _locate_by_seq),),
    ),
    Fault(
        "echo from the log",
        "A replay does not leave out what its own connection published with `echo: false`.",
        test_publishing.test_echo_false,
        ((subscribing, "start_replay", _start_replay_for_anyone),),
    ),
    Fault(
        "retained value lost by replacing it",
        "A new last value keeps the place of the old one, where the snapshot does not look for it.",
        test_subscribing.test_retained_values_racing_with_subscribes,
        ((RetainedValues, "keep", _keep_only_the_first),),
    ),
    Fault(
        "still attached after unsubscribe",
        "An unsubscribe forgets filters with wildcards in the index.",
        test_subscribing.test_unsubscribes_racing_with_deliveries,
        ((FilterIndex, "remove", _detach_exact_only),),
    ),
    Fault(
        "ack before append",
        "A publish is acknowledged with the next seq, and appended in a later step.",
        test_subscribing.test_subscribes_racing_with_publishes,
        ((Session, "_publish", _ack_and_publish_later),),
    ),
    Fault(
        "ack before fan-out",
        "A publish is appended and acknowledged, and offered to the subscribers in a later step.",
        test_subscribing.test_subscribes_racing_with_publishes,
        ((Namespace, "_fan_out", _fan_out_later),),
    ),
    Fault(
        "ack while stopping",
        "A draining broker still takes publishes, whose subscribers may have been sent away.",
        test_draining.test_drain_during_publish,
        ((Session, "_publish", _publish_while_draining),),
    ),
    Fault(
        "key forgotten too early",
        "Idempotency keys are remembered for half the time that clients were told.",
        test_publishing.test_connection_is_cut_between_publish_and_ack,
        ((KeyMemory, "remember", _remember_for_half_the_time),),
    ),
    Fault(
        "keys forgotten at a restart",
        "A broker that comes back with its memory has its logs, and not the keys of what it published.",
        test_reconnecting.test_broker_comes_back_with_its_memory,
        ((Broker, "reopen", _reopen_and_forget_keys),),
    ),
    Fault(
        "lost wakeup",
        "The drainer looks at the outbox for the last time, and only later says that it has gone.",
        test_fair_weather.test_everything_is_prompt,
        ((Link, "_drain", _drain_and_dawdle),),
    ),
    Fault(
        "latecomers not flushed",
        "The flusher forgets the links that have got something while it wrote to others.",
        test_fair_weather.test_everything_is_prompt,
        ((Flusher, "run", _flush_and_forget_latecomers),),
    ),
    Fault(
        "partial write taken for whole",
        "What the wire did not take of a write is counted as sent.",
        test_fair_weather.test_large_messages,
        ((Outbox, "sent", _note_all_sent),),
    ),
    Fault(
        "overflow without an end",
        "A connection that is too slow has its queue emptied, and goes on as if nothing had been.",
        test_slow_subscribers.test_frozen_subscriber,
        ((Session, "_overflow", _overflow_and_go_on),),
    ),
    Fault(
        "dropped without a gap",
        "Messages that are dropped for want of room are not announced.",
        test_slow_subscribers.test_oldest_are_dropped,
        ((LossNotice, "cover", _drop_without_a_word),),
    ),
    Fault(
        "conflated across a marker",
        "A newer value takes the place of one that is queued before a `live`.",
        test_slow_subscribers.test_newest_take_the_place_of_older_ones,
        ((Outbox, "notify", _notify_and_keep_places),),
    ),
    Fault(
        "conflated to the oldest",
        "Of the values of a topic the first that is queued stays, and the last never arrives.",
        test_slow_subscribers.test_newest_take_the_place_of_older_ones,
        ((Outbox, "offer_newest", _keep_the_oldest),),
    ),
    Fault(
        "fallen behind one too far",
        "A connection that is served from the log begins one message behind what it missed.",
        test_slow_subscribers.test_served_from_the_log,
        ((Session, "_fall_behind", _fall_behind_and_miss),),
    ),
    Fault(
        "fallen behind one too few",
        "A connection that is served from the log gets its last message again.",
        test_slow_subscribers.test_served_from_the_log,
        ((Session, "_fall_behind", _fall_behind_and_repeat),),
    ),
    Fault(
        "rules for newcomers only",
        "Rules that change apply to those who connect after that, and not to running subscriptions.",
        test_revoking.test_revocation_in_mid_stream,
        ((Session, "_regrant", _regrant_newcomers), (Changeover, "targets", _target_all)),
    ),
    Fault(
        "positions told too late",
        "A position is told when the log has turned over twice, not when it has half.",
        test_positions.test_rare_topic_in_a_busy_namespace,
        ((positions, "_PER_LOG", 0.5),),
    ),
    Fault(
        "position told before the message",
        "A position is told before the message at which it stands is queued.",
        test_slow_subscribers.test_frozen_subscriber,
        ((Namespace, "_fan_out", _tell_position_and_fan_out),),
    ),
    Fault(
        "task leaked on disconnect",
        "The task of a connection that was cut waits for a goodbye.",
        test_reconnecting.test_reconnect_storm,
        ((Connection, "serve", _serve_and_wait), (Connection, "_let_go", _note_and_let_go)),
    ),
    Fault(
        "half-open for ever",
        "A client that does not answer a ping is sent the next one.",
        test_reconnecting.test_half_open_connections_are_noticed,
        ((Connection, "_look_at_life", _ping_again),),
    ),
    Fault(
        "client drops its buffer",
        "A client forgets at a reconnect what the application had not read yet.",
        test_reconnecting.test_reconnect_storm,
        ((Feed, "detach", _detach_and_clear),),
    ),
    Fault(
        "position ahead of the application",
        "A subscription's position is where its buffer ends, not where its reader is.",
        test_reconnecting.test_resume_from_a_stored_position,
        ((Feed, "_take", _take_and_be_where_the_buffer_ends),),
    ),
    Fault(
        "step back over the message that did not fit",
        "A client whose buffer is full resumes behind the message for which there was no room.",
        test_slow_subscribers.test_slow_application,
        ((Feed, "delivered", _move_on_before_there_is_room),),
    ),
    Fault(
        "reconnect without a word",
        "A subscription that spans namespaces and cannot resume does not tell that it was away.",
        test_subscribing.test_filters_that_span_namespaces,
        ((Feed, "subscribed", _subscribed_as_if_first),),
    ),
    Fault(
        "sent again in the wrong order",
        "A client that reconnects sends its open publishes again, the newest first.",
        test_publishing.test_several_tasks_of_one_client,
        ((Publisher, "attach", _send_the_newest_first),),
    ),
)

"""Listens to a simulated broker's connections, and judges each by the contract (docs/reference/protocol.md).

Clients forgive: they drop what they have seen before, ignore what nobody asked
for, and come back when something is stuck. So a fault of the broker can hide
behind them. Here every frame counts, in the order in which the socket took it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from attrs import define, field

from tercet_protocol import Filter, parse_filter

_REPLIES = frozenset({"connected", "subscribed", "unsubscribed", "published", "history", "pong", "error"})


class ContractError(AssertionError):
    """The broker has said something that the contract does not allow."""


@define(eq=False)
class _Sub:
    """A subscription as it looks from outside.

    Attributes:
        since: the seq that it asked to begin after, if it did.
        replayed: the newest seq of its replay.
        starts: live messages above this seq are for it; None while it is replaying.
        is_gap_due: whether a gap has to come next, because it was not recovered.
    """

    filter: Filter
    since: int | None
    replayed: int = 0
    starts: int | None = None
    is_gap_due: bool = False


@define(eq=False)
class _Talk:
    """One connection."""

    requests: deque[dict[str, Any]] = field(factory=deque)  # those with an id that were not answered
    asked: dict[int, _Sub] = field(factory=dict)  # {id: what was asked for}
    subs: dict[int, _Sub] = field(factory=dict)  # {id: what was granted}
    leaving: set[int] = field(factory=set)  # the ids of those that were to end
    newest: dict[str, int] = field(factory=dict)  # {namespace: seq of the newest live message}
    told: dict[str, int] = field(factory=dict)  # {namespace: seq of the newest position}
    is_draining: bool = False
    has_fallen_behind: bool = False
    conflating: set[str] = field(factory=set)  # namespaces

    def hear_request(self, request: dict[str, Any]) -> None:
        if request["op"] == "unsubscribe":
            # Without an id it is not answered: from here on it may be gone.
            self.leaving.add(request["sub"])
        id_ = request.get("id")
        if id_ is None:
            return
        self.requests.append(request)
        if request["op"] == "subscribe":
            with contextlib.suppress(ValueError):  # it will be refused
                self.asked[id_] = _Sub(parse_filter(request["filter"]), (request.get("since") or {}).get("seq"))

    def hear(self, event: dict[str, Any]) -> None:
        request = self._answered_by(event)
        match event["op"]:
            case "message":
                self._hear_message(event)
            case "subscribed":
                self._hear_subscribed(event)
            case "live":
                self._hear_live(event)
            case "gap":
                self._hear_gap(event)
            case "unsubscribed":
                gone = event["sub"] if request is None else request["sub"]
                if self.subs.pop(gone, None) is None:
                    raise ContractError("[R-017] there is no such subscription")
            case "published" if request is not None:
                self._hear_published(event, request)
            case "position":
                self.told[event["namespace"]] = event["seq"]
            case "drain":
                self.is_draining = True
            case _:
                pass

    def _answered_by(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Return the request to which this is the reply."""
        if event["op"] not in _REPLIES or event.get("id") is None:
            return None
        request = self.requests.popleft() if self.requests else None
        if request is None or request["id"] != event["id"]:
            raise ContractError("[C-021] it is no reply to the oldest open request")
        return request

    def _sub(self, id_: int) -> _Sub:
        try:
            return self.subs[id_]
        except KeyError:
            raise ContractError("[R-018] its subscription has ended, or never was") from None

    def _hear_subscribed(self, event: dict[str, Any]) -> None:
        sub = self.subs[event["id"]] = self.asked.pop(event["id"])
        if event.get("recovered"):
            sub.replayed = sub.since or 0
        else:
            sub.is_gap_due = sub.since is not None
        if event["live"]:
            sub.starts = event.get("seq") or 0
        if event.get("conflated"):
            self.conflating.add(sub.filter.levels[0])

    def _hear_gap(self, event: dict[str, Any]) -> None:
        if event.get("sub") is not None:
            self._sub(event["sub"]).is_gap_due = False
            return
        namespace = event["namespace"]
        if namespace in self.conflating:
            return
        newest = self.newest.get(namespace, 0)
        if newest > event["after"]:
            raise ContractError(f"[G-003] live messages had come to {newest}")
        self.newest[namespace] = event["through"]

    def _hear_message(self, event: dict[str, Any]) -> None:
        topic, seq = event["topic"], event["seq"]
        if "sub" in event:
            sub = self._sub(event["sub"])
            if sub.starts is not None:
                raise ContractError("[S-005] its subscription is live already")
            if sub.is_gap_due:
                raise ContractError("[S-008] its subscription was not recovered, and no gap has come yet")
            if seq <= sub.replayed:
                raise ContractError(f"[S-003] the replay had come to {sub.replayed}")
            if not sub.filter.matches(topic):
                raise ContractError(f"[S-003] it does not match {sub.filter.text!r}")
            sub.replayed = seq
            return
        namespace = topic.partition("/")[0]
        if namespace not in self.conflating and seq <= self.newest.get(namespace, 0):
            raise ContractError(f"[M-005] live messages had come to {self.newest[namespace]}")
        if seq <= self.told.get(namespace, 0):
            raise ContractError(f"[S-020] the position {self.told[namespace]} was told before")
        self.newest[namespace] = max(seq, self.newest.get(namespace, 0))
        if not any(self._wants(sub, topic, seq) for sub in self.subs.values()):
            raise ContractError("[M-003] it is for none of the connection's live subscriptions")

    def _wants(self, sub: _Sub, topic: str, seq: int) -> bool:
        return sub.starts is not None and sub.starts < seq and sub.filter.matches(topic)

    def _hear_live(self, event: dict[str, Any]) -> None:
        sub = self._sub(event["sub"])
        if sub.starts is not None:
            raise ContractError("[S-001] it was live already")
        if sub.is_gap_due:
            raise ContractError("[S-008] it was not recovered, and no gap has come")
        if event["seq"] < sub.replayed:
            raise ContractError(f"[S-005] the replay had come to {sub.replayed}")
        sub.starts = event["seq"]

    def _hear_published(self, event: dict[str, Any], request: dict[str, Any]) -> None:
        if self.is_draining:
            raise ContractError("[P-006] the connection was told of the drain before")
        topic, seq = request["topic"], event["seq"]
        if request.get("echo", True) is False or event.get("duplicate") or self.has_fallen_behind:
            return
        is_due = any(self._wants(sub, topic, seq) for id_, sub in self.subs.items() if id_ not in self.leaving)
        if is_due and self.newest.get(topic.partition("/")[0], 0) < seq:
            raise ContractError("[P-001] the message has not come to this connection's own subscription")


@define(eq=False)
class Wiretap:
    """A `Tracer` of one broker's life. It does not raise; `check` does."""

    has_fallen_behind: Callable[[str], bool] = lambda _: False  # {connection}: served from the log
    _talks: dict[str, _Talk] = field(factory=dict)  # {connection: its talk}
    _error: ContractError | None = None

    def __call__(self, connection: str, direction: str, opcode: str, payload: bytes) -> None:
        """Hear a frame."""
        if opcode == "close":
            self._talks.pop(connection, None)
        if opcode != "text" or self._error is not None:
            return
        talk = self._talks.setdefault(connection, _Talk())
        event = msgspec.json.decode(payload)
        if direction == "in":
            talk.hear_request(event)
            return
        if event["op"] == "published":
            talk.has_fallen_behind = self.has_fallen_behind(connection)
        try:
            talk.hear(event)
        except ContractError as error:
            self._error = ContractError(f"{error}; connection {connection} was sent {payload.decode()}")

    def check(self) -> None:
        """Demand that nothing was wrong.

        Raises:
            ContractError: the first thing that was.
        """
        if self._error is not None:
            raise self._error

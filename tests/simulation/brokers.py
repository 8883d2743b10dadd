"""Settings of small brokers: whatever is bounded, is reached."""

from __future__ import annotations

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings, Overflow, Rule
from tercet_broker.runtime import AuthSettings, DaemonSettings, TimeoutSettings


def small_broker(
    *,
    messages: int | None = 1000,
    seconds: float | None = None,
    per_topic: int = 0,
    overflow: Overflow | None = None,
    outbox: int = 16_384,
    replies: int = 64,
    key_seconds: float = 300.0,
    heartbeat: float = 25.0,
    auth: AuthSettings | None = None,
    rules: tuple[Rule, ...] = (),
) -> DaemonSettings:
    """Return settings; `messages` is the length of every namespace's log, None only the handover run's."""
    history = None if messages is None else HistorySettings(messages=messages, seconds=seconds, per_topic=per_topic)
    return DaemonSettings(
        broker=BrokerSettings(
            unnamed=NamespaceSettings(history=history, overflow=overflow),
            limits=LimitSettings(outbox_messages=outbox, replies=replies, key_seconds=key_seconds),
        ),
        timeouts=TimeoutSettings(heartbeat=heartbeat),
        auth=auth,
        rules=rules,
    )

"""The Python client of Tercet, a topic-based publish/subscribe broker over WebSockets, on Trio.

async with tercet.connect("ws://127.0.0.1:8080") as client:
async with client.subscribe("prices/+", last=10) as prices:
await client.publish("prices/AAPL", {"bid": 187.2})
async for message in prices:
print(message.topic, message.seq, message.data)
"""

from __future__ import annotations

from msgspec import Raw

from tercet_protocol import GapReason, InvalidFilterError, Position

from ._client import Client, Statistics, connect
from ._errors import (
    BrokenClientError,
    BrokenError,
    BrokenSubscriptionError,
    CannotConnectError,
    ClosedClientError,
    ClosedError,
    ClosedSubscriptionError,
    OutcomeUnknownError,
    RefusedError,
    TercetError,
)
from ._message import Gap, HistoryPage, Live, Message, Published
from ._pipeline import Pipeline
from ._script import fetch, publish
from ._subscription import Subscription

__all__ = [
    "BrokenClientError",
    "BrokenError",
    "BrokenSubscriptionError",
    "CannotConnectError",
    "Client",
    "ClosedClientError",
    "ClosedError",
    "ClosedSubscriptionError",
    "Gap",
    "GapReason",
    "HistoryPage",
    "InvalidFilterError",
    "Live",
    "Message",
    "OutcomeUnknownError",
    "Pipeline",
    "Position",
    "Published",
    "Raw",
    "RefusedError",
    "Statistics",
    "Subscription",
    "TercetError",
    "connect",
    "fetch",
    "publish",
]

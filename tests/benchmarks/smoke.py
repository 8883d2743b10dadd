"""The smoke test: every kind of work, tiny, so that the gate notices when something no longer works."""

from __future__ import annotations

from .measuring import Pace
from .works import WORKS

_NAMES = {
    "1-1",
    "20-100",
    "latency",
    "heartbeats",
    "connect",
    "others-999",
    "stall",
    "wildcards",
    "1-100-wss",
    "1-1-ack",
    "1-100-history",
    "1-100-retain",
}

SMOKE_WORKS = [work for work in WORKS if work.name in _NAMES]
SMOKE_PEERS = frozenset({"tercet", "naive"})
SMOKE_PACE = Pace(seconds=0.2, warm_up=0.1, divisor=20)

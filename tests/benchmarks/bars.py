"""The bars: what Tercet has to stay under. Each is a median over rounds, a ratio is taken within each round."""

from __future__ import annotations

from attrs import frozen

from .results import Results, Spread

_ROWS = ("1-1", "1-10", "1-100", "1-1000", "20-100")
_MANY = ("1-10", "1-100", "1-1000", "20-100")


@frozen
class Bar:
    """Tercet's figure at a work, or its ratio to a (work, peer), is at most `limit`."""

    work: str
    figure: str
    limit: float
    over: tuple[str, str] | None = None

    def spread(self, results: Results) -> Spread | None:
        """Return what was measured; None if it was not."""
        if self.over is None:
            return results.spread(self.work, "tercet", self.figure)
        return results.ratio(self.figure, (self.work, "tercet"), self.over)

    def floor(self, results: Results) -> Spread | None:
        """Return how the floor grows where Tercet's own growth is judged: that much is the kernel's."""
        if self.over is None or self.over[1] != "tercet":
            return None
        return results.ratio(self.figure, (self.work, "floor"), (self.over[0], "floor"))

    def __str__(self) -> str:
        if self.over is None:
            return f"{self.work}: {self.figure}"
        work, peer = self.over
        return f"{self.work}: {self.figure} ÷ {peer}" + (f" at {work}" if work != self.work else "")


def _against(peer: str, limits: dict[str, float]) -> list[Bar]:
    return [Bar(work, "us", limit, (work, peer)) for work, limit in limits.items()]


BARS = (
    *_against("nats", {"1-1": 3, "1-10": 1.5, "1-100": 0.8, "1-1000": 0.8, "20-100": 0.8}),
    *_against("mosquitto", {"1-1": 1, **dict.fromkeys(_MANY, 0.6)}),
    *_against("naive", dict.fromkeys(_ROWS, 0.1)),
    Bar("latency", "p99", 1.5, ("latency", "nats")),
    Bar("idle", "kib", 1.3, ("idle", "bare")),
    Bar("heartbeats", "busy", 2.0),
    Bar("connect", "us", 800.0),
    Bar("others-999", "us", 1.5, ("others-0", "tercet")),
    Bar("strangers-5000", "us", 1.5, ("others-0", "tercet")),
    Bar("crowd-1000", "us", 1.5, ("crowd-100", "tercet")),
    Bar("crowd-5000", "us", 1.5, ("crowd-100", "tercet")),
    Bar("topics-10000", "us", 1.5, ("topics-1", "tercet")),
    Bar("stall", "p99", 20.0),
)

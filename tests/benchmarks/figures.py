"""The figures: what a measurement yields."""

from __future__ import annotations

from attrs import frozen

Figures = dict[str, float]  # {name: value}


@frozen
class Figure:
    """What a name means."""

    unit: str
    meaning: str
    digits: int = 2


FIGURES = {
    "us": Figure("µs", "processor time of the broker for a delivery, or for a connection"),
    "system": Figure("%", "how much of that the kernel used for it", 0),
    "rate": Figure("/s", "deliveries, or connections, a second", 0),
    "busy": Figure("%", "how much of its core the broker used, of what others left to it", 1),
    "load": Figure("%", "how much of its time the load had something to do", 0),
    "others": Figure("%", "how much of the broker's core others used", 0),
    "p50": Figure("ms", "latency"),
    "p99": Figure("ms", "99th percentile of latency"),
    "max": Figure("ms", "longest latency"),
    "kib": Figure("KiB", "resident memory for a connection", 1),
}

# A broker that is less busy than this, beside a load that is busier, was not measured at its limit.
_BUSY_ENOUGH = 85.0


def load_was_the_limit(figures: Figures) -> bool:
    """Tell whether the load rather than the broker decided the rate."""
    return figures.get("busy", 100.0) < _BUSY_ENOUGH and figures.get("load", 0.0) > figures.get("busy", 100.0)

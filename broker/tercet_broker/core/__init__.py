"""What the broker does: synchronous, without I/O, clock or randomness of its own."""

from __future__ import annotations

from .accounting import AccountStatistics, DropReason
from .broker import Broker, BrokerStatistics
from .errors import CoreError, RefusedError
from .moment import Entropy, Moment
from .namespace import NamespaceStatistics
from .session import Carrier, Session, SessionStatistics
from .settings import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings

__all__ = [
    "AccountStatistics",
    "Broker",
    "BrokerSettings",
    "BrokerStatistics",
    "Carrier",
    "CoreError",
    "DropReason",
    "Entropy",
    "HistorySettings",
    "LimitSettings",
    "Moment",
    "NamespaceSettings",
    "NamespaceStatistics",
    "RefusedError",
    "Session",
    "SessionStatistics",
]

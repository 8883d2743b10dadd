"""What the broker does: synchronous, without I/O, clock or randomness of its own."""

from __future__ import annotations

from .access import Access, Answer, Review
from .accounting import AccountStatistics, DropReason
from .broker import Broker, BrokerStatistics
from .errors import CoreError, RefusedError
from .identity import ANONYMOUS, Arrival, Identity
from .moment import Entropy, Moment
from .namespace import NamespaceStatistics
from .rules import Action, Rule, Rules
from .session import Carrier, Session, SessionStatistics
from .settings import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings, Overflow

__all__ = [
    "ANONYMOUS",
    "Access",
    "AccountStatistics",
    "Action",
    "Answer",
    "Arrival",
    "Broker",
    "BrokerSettings",
    "BrokerStatistics",
    "Carrier",
    "CoreError",
    "DropReason",
    "Entropy",
    "HistorySettings",
    "Identity",
    "LimitSettings",
    "Moment",
    "NamespaceSettings",
    "NamespaceStatistics",
    "Overflow",
    "RefusedError",
    "Review",
    "Rule",
    "Rules",
    "Session",
    "SessionStatistics",
]

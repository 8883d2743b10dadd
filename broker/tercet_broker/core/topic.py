"""A topic: the fan-out channel of its messages.

It caches which connections get them. The cache is valid while no
subscription of the namespace, and none that spans namespaces, has changed; it
is rebuilt by the next publish. A topic exists while it has kept messages; who
subscribed to it is known to the index, not to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from .log import Record
    from .outbox import Outbox


@define(eq=False)
class Topic:
    """One topic of one namespace.

    Attributes:
        json: the name as a JSON string, encoded once.
        records: what the log keeps of it, oldest first.
        retained: its last value, or None.
        targets: the outboxes of the connections that match, as of `version`; never changed, but replaced.
    """

    name: str
    levels: tuple[str, ...]
    json: bytes
    _forget: Callable[[Topic], None] = field(repr=False)
    records: deque[Record] = field(factory=deque, repr=False)
    retained: Record | None = field(default=None, repr=False)
    targets: dict[Outbox, None] = field(factory=dict, repr=False)
    version: int = -1

    def release(self) -> None:
        """Cease to exist if nothing is kept any more."""
        if not self.records and self.retained is None:
            self._forget(self)

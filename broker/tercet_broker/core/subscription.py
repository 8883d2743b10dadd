"""A subscription: a filter, its options, and whether it is live yet."""

from __future__ import annotations

from attrs import define, field

from tercet_protocol import Filter

from .namespace import Namespace
from .replay import Replay


@define(eq=False)
class Subscription:
    """One subscription of one session.

    Attributes:
        id: the id of the `subscribe`, which names it.
        namespace: where it lies; None if its filter spans namespaces.
        replay: what is left to be sent before it is live; None once it is.
    """

    id: int
    filter: Filter
    namespace: Namespace | None
    replay: Replay | None = field(default=None, repr=False)

    @property
    def is_live(self) -> bool:
        """Whether what is published reaches it at once."""
        return self.replay is None

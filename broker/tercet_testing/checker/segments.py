"""In which epoch the messages of a filter over namespaces stand, where the client cannot know it.

A gap without numbers divides such a stream into segments. Within one, a
namespace has one epoch, for another comes with another connection. It is taken
as known if a message of the segment can stand in no other, or if a gap names it.
"""

from __future__ import annotations

from attrs import define, field

from ..events import Delivered, GapTold
from .ledger import Ledger, Sequence, Subscription, namespace_of


@define(eq=False)
class Segments:
    """The segments of one subscription.

    Attributes:
        starts: when each begins.
        known: {(segment, namespace): epoch}.
    """

    starts: list[int]
    known: dict[tuple[int, str], str] = field(factory=dict)

    @classmethod
    def of(cls, ledger: Ledger, subscription: Subscription) -> Segments:
        """Find out what can be known."""
        placed: dict[tuple[str, int, str, bytes], str] = {}
        told = subscription.told
        unplaced = {
            (namespace_of(event.topic), event.seq)
            for _, event in told
            if isinstance(event, Delivered) and not event.epoch
        }
        if unplaced:
            for fact in ledger.facts.values():
                namespace, epoch, seq = fact.place
                if (namespace, seq) in unplaced and ledger.is_certain(fact):
                    placed[namespace, seq, fact.topic, fact.data] = epoch
        segments = cls([0])
        for now, event in told:
            match event:
                case GapTold(namespace=str(namespace), epoch=str(epoch)):
                    segments.known[len(segments.starts) - 1, namespace] = epoch
                case GapTold(after=None):
                    segments.starts.append(now)
                case Delivered(epoch=None):
                    namespace = namespace_of(event.topic)
                    found = placed.get((namespace, event.seq, event.topic, event.data))
                    if found is not None:
                        segments.known.setdefault((len(segments.starts) - 1, namespace), found)
        return segments

    def at(self, now: int, namespace: str) -> str | None:
        """Return the epoch of a namespace at this time, if it is known."""
        return self.known.get((self._number(now), namespace))

    def sequence(self, now: int, event: Delivered) -> Sequence:
        """Return in which sequence a delivery stands; one without facts if that is not known."""
        namespace = namespace_of(event.topic)
        epoch = event.epoch or self.at(now, namespace)
        return namespace, epoch or f"?{self._number(now)}"

    def _number(self, now: int) -> int:
        return sum(start <= now for start in self.starts) - 1

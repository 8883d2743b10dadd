"""Idempotency keys: a publish that is repeated under its key is answered, not published again."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from attrs import define, field, frozen

from tercet_protocol import ErrorCode

from .errors import RefusedError


@frozen
class _Entry:
    topic: str
    digest: bytes
    seq: int
    until: float


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


@define(eq=False)
class KeyMemory:
    """The keys that one namespace remembers, each for `seconds`, `limit` at most."""

    seconds: float
    limit: int
    _entries: OrderedDict[tuple[str | None, str], _Entry] = field(factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, user: str | None, key: str, topic: str, data: bytes, now: float) -> int | None:
        """Return the seq that this publish was given before, or None if it is new.

        Raises:
            RefusedError: `key_reused` if the key came with another topic or
                other data; `unavailable` if it is new and there is no room.
        """
        self.expire(now)
        entry = self._entries.get((user, key))
        if entry is None:
            if len(self._entries) >= self.limit:
                soonest = next(iter(self._entries.values()))
                raise RefusedError(
                    ErrorCode.UNAVAILABLE,
                    f"{self.limit} keys are remembered already; try again later, or without a key",
                    retry_after=max(soonest.until - now, 0.001),
                )
            return None
        if entry.topic != topic or entry.digest != _digest(data):
            raise RefusedError(
                ErrorCode.KEY_REUSED, f"key {key!r} was used for another topic or other data; use a new key"
            )
        return entry.seq

    def remember(self, user: str | None, key: str, topic: str, data: bytes, *, seq: int, now: float) -> None:  # noqa: PLR0913
        """Note what a new key was used for."""
        self._entries[user, key] = _Entry(topic, _digest(data), seq, now + self.seconds)

    def expire(self, now: float) -> None:
        """Forget the keys whose time is over by `now`."""
        entries = self._entries
        while entries and next(iter(entries.values())).until <= now:
            entries.popitem(last=False)

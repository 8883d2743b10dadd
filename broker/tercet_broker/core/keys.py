"""Idempotency keys: a publish that is repeated under its key is answered, not published again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from hashlib import blake2b

from attrs import define, field, frozen

from tercet_protocol import ErrorCode

from .errors import RefusedError

Owner = str | bytes | int
"""Who holds a share of what is everybody's: a user; where somebody without one comes from; or the connection.

Three types, so that no user can call himself what somebody else is counted as.
"""


class Shares:
    """How much everybody holds of something bounded: nobody more than is still free.

    So one alone gets half of it, two a third each, and there is always some
    left for who comes next (the dynamic thresholds of Choudhury and Hahne,
    1998, with a factor of 1).
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._by_owner: Counter[Owner] = Counter()

    def may_take(self, owner: Owner) -> bool:
        """Tell whether one more would be within the owner's share."""
        return self._by_owner[owner] < self.limit - self.held

    def take(self, owner: Owner) -> None:
        """Note that the owner holds one more."""
        self.held += 1
        self._by_owner[owner] += 1

    def give_back(self, owner: Owner) -> None:
        """Note that the owner holds one less."""
        self.held -= 1
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]


@frozen
class _Entry:
    owner: Owner
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
    _shares: Shares = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nothing held."""
        self._shares = Shares(self.limit)

    def __len__(self) -> int:
        return len(self._entries)

    def resize(self, limit: int) -> None:
        """Remember so many at once from now on; those that are remembered stay."""
        self.limit = self._shares.limit = limit

    def recall(self, user: str | None, key: str, topic: str, data: bytes, *, owner: Owner, now: float) -> int | None:  # noqa: PLR0913 - as `remember`
        """Return the seq that this publish was given before, or None if it is new.

        Raises:
            RefusedError: `key_reused` if the key came with another topic or
                other data; `unavailable` if it is new and there is no room.
        """
        self.expire(now)
        entry = self._entries.get((user, key))
        if entry is None:
            if not self._shares.may_take(owner):
                soonest = next(iter(self._entries.values()))
                raise RefusedError(
                    ErrorCode.UNAVAILABLE,
                    f"{len(self)} keys are remembered already, too many of them yours; "
                    "try again later, or without a key",
                    retry_after=max(soonest.until - now, 0.001),
                )
            return None
        if entry.topic != topic or entry.digest != _digest(data):
            raise RefusedError(
                ErrorCode.KEY_REUSED, f"key {key!r} was used for another topic or other data; use a new key"
            )
        return entry.seq

    def remember(  # noqa: PLR0913 - what a publish is, and what became of it
        self, user: str | None, key: str, topic: str, data: bytes, *, owner: Owner, seq: int, now: float
    ) -> None:
        """Note what a new key was used for."""
        self._shares.take(owner)
        self._entries[user, key] = _Entry(owner, topic, _digest(data), seq, now + self.seconds)

    def expire(self, now: float, most: int | None = None) -> bool:
        """Forget the keys whose time is over by `now`, `most` at most; return whether there may be more."""
        entries = self._entries
        for _ in range(len(entries) if most is None else min(most, len(entries))):
            if next(iter(entries.values())).until > now:
                return False
            self._shares.give_back(entries.popitem(last=False)[1].owner)
        return len(entries) > 0

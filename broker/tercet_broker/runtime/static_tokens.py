"""Static tokens: `id.secret`, of which the configuration holds an argon2 hash.

Argon2 is slow and takes much memory, on purpose: that is what a thief of the
hashes pays. So that strangers cannot make the broker pay it,

- the `id` says which one hash a token is compared with;
- it is computed in a thread, two at once, and few may wait; the same token
  presented by many is computed once;
- a token that was right is remembered, by a keyed hash of itself.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b

import argon2
import structlog
import trio
from argon2.exceptions import VerificationError
from attrs import define, field

from tercet_protocol import ErrorCode

from ..core import Identity, RefusedError
from .offload import Offload
from .settings import TokenSettings

log = structlog.get_logger("tercet")

THREADS = 2
MAX_WAITING = 64  # verifications at once, those in a thread included …
MAX_WAITING_PER_ID = 8  # … and of one id: a storm on one does not keep the others out
_REMEMBERED = 10_000  # tokens; there are no more right ones than are configured, so this is never reached
_RETRY = 1.0  # seconds
_INVALID = "the token is not valid"

_hasher = argon2.PasswordHasher()

Charge = Callable[[], None]
"""Is called for a token that was wrong, where nobody is left to hear it."""


def for_nothing() -> None:
    """Charge nobody."""


def hash_secret(secret: str) -> str:
    """Return the argon2 hash of a secret; takes tens of milliseconds and 64 MiB."""
    return _hasher.hash(secret)


@define(eq=False)
class _Check:
    """One verification that is under way.

    Attributes:
        is_right: what came of it; None as long as nothing has, or if it failed.
        left: what charges those who have gone before that, should it be wrong.
    """

    is_right: bool | None = None
    left: list[Callable[[], None]] = field(factory=list)
    done: trio.Event = field(factory=trio.Event)


@define(eq=False)
class StaticTokens:
    """The configured tokens.

    Attributes:
        tokens: {id: its settings}; may be replaced at any time.
        key: of the hash by which tokens are remembered; random, and of this process alone.
        offload: runs argon2.
        start: starts a task that outlives the connection whose token is verified.
    """

    tokens: Mapping[str, TokenSettings]
    key: bytes = field(repr=False)
    offload: Offload = field(repr=False)
    start: Callable[..., None] = field(repr=False)
    _known: OrderedDict[bytes, str] = field(factory=OrderedDict, repr=False)  # {digest of a right token: its hash}
    _running: dict[bytes, _Check] = field(factory=dict, repr=False)  # {digest of a token: its check}
    _per_id: Counter[str] = field(factory=Counter, repr=False)
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(THREADS), repr=False)

    async def verify(self, token: str, charge: Charge = for_nothing) -> Identity:
        """Return whose a token is.

        Cancelled, its verification goes on for the next who asks, and `charge` is called if the token was wrong: it
        has cost as much as if its verdict had been waited for.

        Raises:
            RefusedError: `unauthorized`, or `unavailable` while too many are being verified, or if that failed.
        """
        id_, _, secret = token.partition(".")
        settings = self.tokens.get(id_)
        if settings is None:
            raise RefusedError(ErrorCode.UNAUTHORIZED, _INVALID)
        digest = blake2b(token.encode("utf-8", "surrogatepass"), key=self.key).digest()
        if self._known.get(digest) != settings.hash:
            check = self._running.get(digest)
            if check is None:
                check = self._begin(digest, settings, secret)
            try:
                await check.done.wait()
            except trio.Cancelled:
                if not check.done.is_set():
                    check.left.append(charge)
                elif check.is_right is False:
                    charge()
                raise
            if check.is_right is None:
                raise _busy("the token could not be verified; try again")
            # The settings may have been replaced meanwhile: only what they say now counts.
            if not check.is_right or self.tokens.get(id_) != settings:
                raise RefusedError(ErrorCode.UNAUTHORIZED, _INVALID)
        return Identity(settings.user, frozenset(settings.groups), None, f"token:{id_}")

    def _begin(self, digest: bytes, settings: TokenSettings, secret: str) -> _Check:
        if len(self._running) >= MAX_WAITING or self._per_id[settings.id] >= MAX_WAITING_PER_ID:
            raise _busy("too many tokens are being verified at the moment; try again")
        check = self._running[digest] = _Check()
        self._per_id[settings.id] += 1
        self.start(self._run, check, digest, settings, secret)
        return check

    async def _run(self, check: _Check, digest: bytes, settings: TokenSettings, secret: str) -> None:
        try:
            check.is_right = await self.offload(lambda: _is_right(settings.hash, secret), self._limiter)
            if check.is_right:
                self._known[digest] = settings.hash
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            else:
                for charge in check.left:
                    charge()
        except Exception as error:
            # No thread or no memory to be had: that is nobody's fault who asks, and no reason to end for all.
            log.exception("cannot verify a token", id=settings.id, exc_info=error)
        finally:
            del self._running[digest]
            self._per_id[settings.id] -= 1
            if not self._per_id[settings.id]:
                del self._per_id[settings.id]
            check.done.set()


def _busy(text: str) -> RefusedError:
    return RefusedError(ErrorCode.UNAVAILABLE, text, retry_after=_RETRY)


def _is_right(hash_: str, secret: str) -> bool:
    try:
        return _hasher.verify(hash_, secret)
    except (VerificationError, UnicodeError):
        return False

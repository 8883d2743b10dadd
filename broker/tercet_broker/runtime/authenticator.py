"""Finds out whose a token is: a static one (`id.secret`) or a JSON Web Token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio
from attrs import define, evolve, field

from tercet_protocol import ErrorCode

from ..core import Identity, RefusedError, Review
from .clock import Clock
from .json_web_tokens import Issuer, load_key, read_header
from .key_set import Fetch, KeySet, OtherIssuerError, fetch
from .offload import Offload, in_thread
from .settings import AuthSettings, JwtSettings, TokenSettings
from .static_tokens import Charge, StaticTokens, for_nothing

MAX_TOKEN = 8 * 1024  # characters; what fits a request head beside everything else

_JWT_DOTS = 2  # RFC 7515, 3.1


@define(eq=False)
class Authenticator:
    """Verifies tokens, for all connections of a daemon.

    `run` has to run beside it. `replace` puts other settings into place.

    Args:
        settings: which tokens are known.
        clock: says which have expired.
        key: 32 random bytes, of this process alone.
        offload: runs what takes long.
        fetch: gets key sets.

    Raises:
        OSError, ValueError: a key file cannot be used.
    """

    settings: AuthSettings
    clock: Clock = field(repr=False)
    key: bytes = field(repr=False)
    offload: Offload = field(default=in_thread, repr=False)
    fetch: Fetch = field(default=fetch, repr=False)
    _static: StaticTokens = field(init=False, repr=False)
    _issuers: tuple[Issuer, ...] = field(init=False, repr=False)
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the keys."""
        self._static = StaticTokens(_by_id(self.settings), self.key, self.offload, self._start)
        self._issuers = tuple(self._open(settings) for settings in self.settings.jwt)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what outlives single connections, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def _start(self, function: Callable[..., Any], *arguments: object) -> None:
        if self._nursery is None:
            raise RuntimeError("Authenticator.run is not running")
        self._nursery.start_soon(function, *arguments)

    def _open(self, settings: JwtSettings) -> Issuer:
        if settings.jwks is not None:
            return Issuer(settings, KeySet(settings.jwks, settings.algorithm, self.fetch, self.offload, self._start))
        if settings.key is None:
            raise ValueError("an issuer has a key, or a key set")
        return Issuer(settings, load_key(settings.key, settings.algorithm))

    async def verify(self, token: str, charge: Charge = for_nothing) -> Identity | RefusedError:
        """Return whose a token is, or why it is refused. What it says of that repeats nothing of the token.

        Cancelled, `charge` is called later, if the token was wrong and finding that out has taken long.
        """
        try:
            return await self._identify(token, charge)
        except RefusedError as error:
            return error

    async def _identify(self, token: str, charge: Charge) -> Identity:
        if len(token) > MAX_TOKEN:
            raise RefusedError(ErrorCode.UNAUTHORIZED, f"a token has {MAX_TOKEN} characters at most")
        if token.count(".") != _JWT_DOTS:
            return await self._static.verify(token, charge)
        try:
            header = read_header(token)
        except ValueError as error:
            raise RefusedError(ErrorCode.UNAUTHORIZED, f"the token is not valid: {error}") from error
        refusals = list[RefusedError]()
        for issuer in self._issuers:
            try:
                identity = await issuer.verify(token, header, self.clock.moment())
            except RefusedError as error:
                refusals.append(error)
                continue
            if issuer in self._issuers:  # they may have been replaced while its key was fetched
                return identity
        raise _clearest(refusals)

    def replace(self, settings: AuthSettings) -> Review | None:
        """Go on with other settings; return what becomes of those who are known already.

        None if everybody stays who they are, for whatever becomes of each has a price.
        Issuers that are the same keep the keys they have fetched.

        Raises:
            OSError, ValueError: a key file cannot be used; then nothing has changed.
        """
        before = {issuer.settings: issuer for issuer in self._issuers}
        issuers = []
        for one in settings.jwt:
            issuer, same = self._open(one), before.get(one)
            if same is not None and (isinstance(same.key, KeySet) or same.key == issuer.key):
                issuer = before.pop(one)
            issuers.append(issuer)
        distrusted = {f"jwt:{one.issuer}" for one in before}
        tokens, known = _by_id(settings), self._static.tokens
        self.settings, self._static.tokens, self._issuers = settings, tokens, tuple(issuers)

        if not distrusted and tokens == known:
            return None

        def review(identity: Identity) -> Identity | None:
            kind, _, name = identity.source.partition(":")
            if kind != "token":
                return None if identity.source in distrusted else identity
            token, was = tokens.get(name), known.get(name)
            if token is None or was is None or (token.hash, token.user) != (was.hash, was.user):
                return None
            return evolve(identity, groups=frozenset(token.groups))

        return review


def _by_id(settings: AuthSettings) -> Mapping[str, TokenSettings]:
    return {token.id: token for token in settings.token}


def _clearest(refusals: Sequence[RefusedError]) -> RefusedError:
    """Return why a token is refused that no issuer takes.

    One that cannot be asked now may be the one; else it is the one that knows the token for its own.
    """
    best = min(
        refusals, key=lambda error: (error.retry_after is None, isinstance(error, OtherIssuerError)), default=None
    )
    if best is None or (isinstance(best, OtherIssuerError) and len(refusals) > 1):
        return OtherIssuerError("nobody known here has issued it")
    return best

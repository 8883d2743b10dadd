"""An issuer's published keys (JWKS, RFC 7517): fetched seldom, whatever strangers present.

Tokens cannot make the broker fetch more often than once in `PAUSE` seconds,
nor twice at once. A key that is not in the set is not there until then.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import IO, NoReturn
from urllib.parse import urlsplit

import jwt
import structlog
import trio
from attrs import define, field

from tercet_protocol import ErrorCode

from ..core import RefusedError
from .address import TcpAddress
from .offload import Offload

log = structlog.get_logger("tercet")

REFRESH = 300.0  # seconds after which the set is fetched again when it is next needed
PAUSE = 30.0  # seconds between two attempts, successful or not
STALE = 3600.0  # seconds for which a set serves that cannot be fetched again: a withdrawn key works no longer than that
TIMEOUT = 10.0  # seconds for one attempt
MAX_BYTES = 256 * 1024
MAX_KEYS = 64
MAX_KEY_ID = 256

_CHUNK = 16 * 1024
_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_MIN_RSA = 2048  # bits (NIST SP 800-131A)

Fetch = Callable[[str], bytes]


class FetchError(Exception):
    """A key set could not be had."""


def check_url(url: str) -> None:
    """Raise ValueError unless keys may be fetched from `url`: others must not be able to change them on the way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username is not None or parts.fragment or not host:
        raise ValueError(f"must be the URL of a key set, not {url!r}")
    if parts.scheme != "https" and not (parts.scheme == "http" and TcpAddress(host, 0).is_loopback):
        raise ValueError("must be an https URL, for whoever can change the keys can be anyone")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> NoReturn:
        raise FetchError("it redirects, which is not followed")


def fetch(url: str) -> bytes:
    """Return what is at `url`; blocks, `TIMEOUT` seconds at most while it is being read.

    Raises:
        FetchError: it is larger than `MAX_BYTES`, redirects, or takes too long.
        OSError: it cannot be had.
    """
    check_url(url)
    opener = urllib.request.build_opener(_NoRedirects)
    until = time.monotonic() + TIMEOUT  # noqa: TID251 - in a thread, where there is no other clock
    with opener.open(url, timeout=TIMEOUT / 2) as response:
        return _read(response, until)


def _read(response: IO[bytes], until: float) -> bytes:
    content = bytearray()
    while chunk := response.read(_CHUNK):
        content += chunk
        if len(content) > MAX_BYTES:
            raise FetchError(f"it is larger than {MAX_BYTES} bytes")
        if time.monotonic() > until:  # noqa: TID251 - likewise
            raise FetchError(f"it took more than {TIMEOUT:g} s")
    return bytes(content)


def parse(content: bytes, algorithm: str) -> dict[str, jwt.PyJWK]:
    """Return {kid: key} of the keys in a set that serve for an algorithm; the others are left out.

    Raises:
        FetchError: it is no key set.
    """
    try:
        keys = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FetchError("it is no JSON key set") from error
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise FetchError(f"it has no list of {MAX_KEYS} keys at most")
    found = {}
    for item in keys:
        kid = item.get("kid") if isinstance(item, dict) else None
        if not isinstance(kid, str) or len(kid) > MAX_KEY_ID or not _serves(item, algorithm):
            continue
        try:
            key = jwt.PyJWK(item, algorithm)
        except Exception:  # noqa: BLE001, S112 - whatever a malformed key makes the library raise
            continue
        if getattr(key.key, "key_size", _MIN_RSA) >= _MIN_RSA or item["kty"] != "RSA":
            found[kid] = key
    return found


def _serves(item: dict[str, object], algorithm: str) -> bool:
    return (
        item.get("kty") == _TYPES[algorithm]
        and item.get("use", "sig") == "sig"
        and item.get("alg", algorithm) == algorithm
        and "d" not in item  # a private key has no business there
    )


class OtherIssuerError(RefusedError):
    """`unauthorized`, and where there are several issuers another one can say better why."""

    def __init__(self, why: str) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, f"the token is not valid: {why}")


@define(eq=False)
class KeySet:
    """One issuer's keys.

    Attributes:
        url: where they are published.
        algorithm: what they are for.
        fetch: gets them; run by `offload`.
        start: starts a task that outlives the connection which needs a key.
    """

    url: str
    algorithm: str
    fetch: Fetch = field(repr=False)
    offload: Offload = field(repr=False)
    start: Callable[..., None] = field(repr=False)
    _keys: dict[str, jwt.PyJWK] = field(factory=dict, repr=False)  # {kid: key}
    _fetched_at: float = float("-inf")
    _tried_at: float = float("-inf")
    _running: trio.Event | None = field(default=None, repr=False)
    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), repr=False)

    async def find(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of that id, or the only one where a token names none.

        Raises:
            RefusedError: `unauthorized` if there is none, `unavailable` if there are no keys at all.
        """
        now = trio.current_time()
        key = self._pick(kid, now)
        if key is None or now >= self._fetched_at + REFRESH:
            if self._running is None and now >= self._tried_at + PAUSE:
                self._running, self._tried_at = trio.Event(), now
                self.start(self._refresh, self._running)
            if key is None and self._running is not None:
                await self._running.wait()
                now = trio.current_time()
                key = self._pick(kid, now)
        if key is not None:
            return key
        if now > self._fetched_at + STALE:
            text = "the keys of the token's issuer cannot be had at the moment; try again"
            raise RefusedError(ErrorCode.UNAVAILABLE, text, retry_after=max(1.0, self._tried_at + PAUSE - now))
        raise OtherIssuerError("it is signed with a key that its issuer does not publish")

    def _pick(self, kid: str | None, now: float) -> jwt.PyJWK | None:
        if now > self._fetched_at + STALE:
            return None
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _refresh(self, running: trio.Event) -> None:
        reason: object = f"not within {TIMEOUT:g} s"
        try:
            with trio.move_on_after(TIMEOUT):
                content = await self.offload(lambda: self.fetch(self.url), self._limiter)
                self._keys, self._fetched_at, reason = parse(content, self.algorithm), trio.current_time(), None
        except Exception as error:  # noqa: BLE001 - whatever fetching raises, the old keys go on serving
            reason = error
        finally:
            self._running = None
            running.set()
        if reason is not None:
            log.warning("cannot fetch keys", url=self.url, reason=str(reason))
        elif not self._keys:
            log.warning("no usable keys", url=self.url, algorithm=self.algorithm)

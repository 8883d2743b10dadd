"""JSON Web Tokens (RFC 7519): verified with a key and an algorithm that the configuration fixes (RFC 8725).

Nothing that a token says of itself is believed before its signature is
verified, but for `kid`, which picks one of the issuer's keys: `alg` has to be
the configured one, `jku`, `x5u`, `jwk` and the like are not looked at, and a
token with `crit` is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tercet_protocol import ErrorCode

from ..core import Identity, Moment, RefusedError
from .key_set import MAX_KEY_ID, KeySet, OtherIssuerError
from .settings import JwtSettings

LEEWAY = 30.0  # seconds that two wall clocks may differ; exp has `grace` instead
MAX_NAME = 255  # characters of a user or a group
MAX_GROUPS = 256
MIN_SECRET = 32  # bytes of an HS256 secret (RFC 7518, 3.2)
_MIN_RSA = 2048  # bits
_MAX_KEY_FILE = 64 * 1024
_LATEST = 2**53  # seconds: the largest integer that every JSON implementation keeps exact
_SURROGATE = re.compile("[\ud800-\udfff]")

Key = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes | jwt.PyJWK


def load_key(path: Path, algorithm: str) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes:
    """Return the key in a file, if it is one for the algorithm.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not; says why.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_KEY_FILE + 1)
    if len(content) > _MAX_KEY_FILE:
        raise ValueError(f"'{path}' is too large for a key")
    if algorithm == "HS256":
        return _secret(path, content.strip())
    if b"PRIVATE KEY" in content:
        raise ValueError(f"'{path}' holds a private key; verifying takes the public one, and nothing else")
    try:
        key = load_pem_public_key(content)
    except Exception as error:  # whatever it is that the library raises for what is none
        raise ValueError(f"'{path}' holds no public key in PEM form") from error
    if algorithm == "RS256" and isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA:
            raise ValueError(f"'{path}' holds an RSA key of {key.key_size} bits; {_MIN_RSA} are the least")
        return key
    if algorithm == "ES256" and isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    if algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey):
        return key
    raise ValueError(f"'{path}' holds no key for {algorithm}")


def _secret(path: Path, secret: bytes) -> bytes:
    if secret.startswith((b"-----BEGIN", b"ssh-")):
        raise ValueError(f"'{path}' holds a key that is no shared secret, as HS256 needs one")
    if len(secret) < MIN_SECRET:
        raise ValueError(f"'{path}' holds {len(secret)} bytes; a secret for HS256 has {MIN_SECRET} or more")
    return secret


def read_header(token: str) -> Mapping[str, Any]:
    """Return the header of a token, of which nothing is verified; ValueError if it has none."""
    try:
        header = jwt.get_unverified_header(token)
    except Exception as error:  # whatever a stranger's token makes the library raise
        raise ValueError("it is no JSON Web Token") from error
    kid = header.get("kid")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= MAX_KEY_ID):
        raise ValueError("its 'kid' is none")
    if "crit" in header or "b64" in header:
        raise ValueError("it has 'crit', of which nothing is understood here")
    return header


@define(eq=False)
class Issuer:
    """One issuer whose tokens are taken."""

    settings: JwtSettings
    key: Key | KeySet = field(repr=False)

    async def verify(self, token: str, header: Mapping[str, Any], moment: Moment) -> Identity:
        """Return whose a token is.

        Raises:
            OtherIssuerError: nothing shows that it is a token of this issuer.
            RefusedError: it is, and `unauthorized`; or `unavailable` if the key cannot be had now.
        """
        algorithm = self.settings.algorithm
        if header.get("alg") != algorithm:
            raise OtherIssuerError("it is not signed as its issuer does")
        key = await self.key.find(header.get("kid")) if isinstance(self.key, KeySet) else self.key
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,  # these three here, by the broker's clock
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                    "verify_jti": False,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.InvalidIssuerError as error:
            raise OtherIssuerError("it is from another issuer") from error
        except jwt.InvalidAudienceError as error:
            raise _invalid("it is for another audience") from error
        except Exception as error:  # whatever a stranger's token makes the library raise
            raise OtherIssuerError("its signature or its form is wrong") from error
        return self._identity(claims, moment.time / 1000)

    def _identity(self, claims: Mapping[str, Any], now: float) -> Identity:
        settings = self.settings
        expires_at = _instant(claims, "exp")
        if expires_at is None or expires_at <= now:
            raise _invalid("it has expired")
        for name in ("nbf", "iat"):
            begins = _instant(claims, name)
            if begins is not None and begins > now + LEEWAY:
                raise _invalid("it is not valid yet")
        user = claims.get(settings.user_claim)
        if not _is_name(user):
            raise _invalid(f"its claim {settings.user_claim!r} names no user")
        groups = claims.get(settings.groups_claim, [])
        if not (isinstance(groups, list) and len(groups) <= MAX_GROUPS and all(map(_is_name, groups))):
            raise _invalid(f"its claim {settings.groups_claim!r} is no list of names")
        return Identity(user, frozenset(groups), expires_at, f"jwt:{settings.issuer}")


def _is_name(value: object) -> bool:
    """Tell whether a claim is a name that can be sent: half of a surrogate pair, which JSON can say, has no UTF-8."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and not _SURROGATE.search(value)


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a time claim, in seconds since 1970."""
    value = claims.get(name)
    if value is None:
        return None
    # (A comparison takes integers that are too large for a float, and is never true of NaN.)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST <= value <= _LATEST:
        raise _invalid(f"its claim {name!r} is no time")
    return float(value)


def _invalid(why: str) -> RefusedError:
    return RefusedError(ErrorCode.UNAUTHORIZED, f"the token is not valid: {why}")

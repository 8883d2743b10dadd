"""Tokens: nobody is anybody without a signature of the issuer's, or the secret; whatever is sent, it is an answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from pathlib import Path
from typing import Any

import argon2
import trio

from tercet_broker.core import Identity, Moment, RefusedError
from tercet_broker.runtime.authenticator import Authenticator
from tercet_broker.runtime.json_web_tokens import Issuer, read_header
from tercet_broker.runtime.offload import in_turn
from tercet_broker.runtime.settings import AuthSettings, JwtSettings, TokenSettings

_SECRET = b"s" * 32
_NOW = 1_800_000_000
_HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("right")
_GOOD = {"iss": "i", "aud": "a", "exp": _NOW + 60, "sub": "u"}

WORDS = [b'"alg":', b'"HS256"', b'"none"', b'"kid":', b'"crit":[]', b'"b64":false', b'"iss":"i"', b'"aud":"a"']
WORDS += [b'"exp":1800000060', b'"nbf":', b'"iat":', b'"sub":"u"', b'"groups":["g"]', b"1e308", b"NaN", b"Infinity"]
WORDS += [b"ok.right", b"ok.", b"eyJhbGciOiJub25lIn0.", b"..", b'"zip":"DEF"', b'"jwk":{}']
_HEAD = b'{"alg":"HS256"}'
SEEDS = [
    b"S" + _HEAD + b"\n" + json.dumps(_GOOD).encode(),
    b"S" + _HEAD + b"\n" + json.dumps({**_GOOD, "nbf": 1.5, "iat": 2, "groups": ["g", "h"]}).encode(),
    b"S" + b'{"alg":"none"}\n' + json.dumps(_GOOD).encode(),
    b"N" + _HEAD + b"\n" + json.dumps(_GOOD).encode(),
    b"Tok.right",
    b"Tok.wrong",
    b"Teyja.b.c",
]


class _Clock:
    def moment(self) -> Moment:
        return Moment(0.0, _NOW * 1000)


_ISSUER = Issuer(JwtSettings("i", "a", "HS256", key=Path("unused")), _SECRET)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def run(data: bytes) -> None:
    """The first byte says what the rest is: a token, or a header and claims that are signed, or wrongly signed."""
    kind, rest = data[:1], data[1:]
    if kind in {b"S", b"N"}:
        header, _, claims = rest.partition(b"\n")
        signed = f"{_b64(header)}.{_b64(claims)}"
        signature = hmac.digest(_SECRET if kind == b"S" else b"n" * 32, signed.encode(), hashlib.sha256)
        _check_jwt(f"{signed}.{_b64(signature)}", header, claims, is_signed=kind == b"S")
        return
    token = rest.decode("utf-8", "surrogateescape")
    if token.count(".") == 2:
        _check_jwt(token, b"", b"", is_signed=False)
        return
    found = trio.run(_verify, token)
    assert isinstance(found, Identity) == (token == "ok.right"), token


async def _verify(token: str) -> Identity | RefusedError:
    settings = AuthSettings(token=(TokenSettings("ok", _HASH, "u"),))
    authenticator = Authenticator(settings, _Clock(), random.Random(1).randbytes(32), in_turn)
    async with trio.open_nursery() as nursery:
        await nursery.start(authenticator.run)
        found = await authenticator.verify(token)
        nursery.cancel_scope.cancel()
    return found


def _check_jwt(token: str, header: bytes, claims: bytes, *, is_signed: bool) -> None:
    try:
        head = read_header(token)
        steps: Any = _ISSUER.verify(token, head, Moment(0.0, _NOW * 1000))
        steps.send(None)
    except (ValueError, RefusedError):
        return
    except StopIteration as result:
        identity = result.value
    else:
        raise AssertionError("a key in memory has to be waited for")
    assert is_signed, "taken without a signature"
    assert json.loads(header)["alg"] == "HS256"
    told = json.loads(claims)
    assert told["iss"] == "i"
    assert told["exp"] > _NOW
    assert told["aud"] == "a" or "a" in told["aud"]
    assert identity.user == told["sub"]
    assert isinstance(identity.user, str)
    assert 0 < len(identity.user) <= 255

"""Attacks on who is who. The daemon knows one token, and lets strangers in as well."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from tests.integration.hostile.attacking import Siege, attack, end_of


def _jwt(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def _verdict(siege: Siege, token: str) -> str:
    peer = await siege.upgraded()
    await peer.request("connect", id=1, token=token)
    found = await peer.frame()
    assert found is not None
    message = json.loads(found[1])
    return f"error {message.get('code')}, {await end_of(peer)}" if message["op"] == "error" else "let in"


@attack("tokens", "error unauthorized, close 3000")
async def unsigned_tokens(siege: Siege) -> str:
    """JSON Web Tokens without a signature, or with another algorithm's, or with a key of their own."""
    claims: dict[str, object] = {"iss": "i", "aud": "a", "exp": 1 << 40, "sub": "root"}
    got = set()
    for header in ({"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256", "jku": "https://evil.example"}):
        for signature in ("", "AAAA"):
            got.add(await _verdict(siege, f"{_jwt(header, claims)}.{signature}"))
    return " ".join(got)


@attack("tokens", "error unauthorized, close 3000")
async def guessed_tokens(siege: Siege) -> str:
    """static tokens that are wrong, empty, huge or not text."""
    wrong = ("feed.", "feed.x", ".", "", "feed", "x" * 9000, "feed.\x00")
    return " ".join({await _verdict(siege, token) for token in wrong})


@attack("tokens", "error rate_limited, close 1013")
async def guessing_at_rate(siege: Siege) -> str:
    """wrong tokens, as fast as it can."""
    for number in range(200):
        got = await _verdict(siege, f"nobody.{number}")
        if got != "error unauthorized, close 3000":
            return got
    return "as many as it likes"

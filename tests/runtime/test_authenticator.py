"""Whose a token is: static ones, JSON Web Tokens, and the attacks on both (RFC 8725)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import argon2
import jwt
import pytest
import trio
from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tercet_broker.core import Identity, Moment, RefusedError
from tercet_broker.runtime import Authenticator, AuthSettings, JwtSettings, TokenSettings, in_thread
from tercet_broker.runtime.json_web_tokens import load_key
from tercet_broker.runtime.key_set import (
    MAX_BYTES,
    MAX_KEYS,
    PAUSE,
    REFRESH,
    STALE,
    FetchError,
    check_url,
    fetch,
    parse,
)
from tercet_broker.runtime.static_tokens import MAX_WAITING, MAX_WAITING_PER_ID, THREADS

T = TypeVar("T")

WALL = 1_800_000_000.0  # seconds since 1970 when the tests begin
ISSUER = "https://login.example"
URL = f"{ISSUER}/keys"
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class FakeClock:
    """The broker's clocks: Trio's, and a wall clock that goes with it."""

    def moment(self) -> Moment:
        return Moment(trio.current_time(), int((WALL + trio.current_time()) * 1000))


@define(eq=False)
class Bench:
    """Runs what takes long here, and counts it."""

    runs: int = 0
    most: int = 0
    seconds: float = 1.0
    _now: int = 0

    async def __call__(self, function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        async with limiter:
            self._now += 1
            self.runs += 1
            self.most = max(self.most, self._now)
            try:
                await trio.sleep(self.seconds)
                return function()
            finally:
                self._now -= 1


@define(eq=False)
class Publisher:
    """An issuer's server: gives its key set, or fails."""

    keys: list[dict[str, Any]] = field(factory=list)
    fetches: list[float] = field(factory=list)  # when
    error: Exception | None = None

    def __call__(self, url: str) -> bytes:
        assert url == URL
        self.fetches.append(trio.current_time())
        if self.error is not None:
            raise self.error
        return json.dumps({"keys": self.keys}).encode()


@define(eq=False)
class Keys:
    """Private keys of each kind, and their public halves in files."""

    folder: Path
    rsa: rsa.RSAPrivateKey = field(factory=lambda: rsa.generate_private_key(65537, 2048))
    ec: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    ed: ed25519.Ed25519PrivateKey = field(factory=ed25519.Ed25519PrivateKey.generate)
    secret: bytes = b"s" * 32

    def private(self, algorithm: str) -> Any:
        return {"RS256": self.rsa, "ES256": self.ec, "EdDSA": self.ed, "HS256": self.secret}[algorithm]

    def public_pem(self, algorithm: str) -> bytes:
        key = self.private(algorithm)
        if isinstance(key, bytes):
            return key
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert isinstance(pem, bytes)
        return pem

    def file(self, algorithm: str) -> Path:
        path = self.folder / f"{algorithm}.pem"
        path.write_bytes(self.public_pem(algorithm))
        return path

    def jwk(self, algorithm: str, kid: str, **more: object) -> dict[str, Any]:
        classes: dict[str, Any] = {
            "RS256": jwt.algorithms.RSAAlgorithm,
            "ES256": jwt.algorithms.ECAlgorithm,
            "EdDSA": jwt.algorithms.OKPAlgorithm,
        }
        made = classes[algorithm].to_jwk(self.private(algorithm).public_key(), as_dict=True)
        return {**made, "kid": kid, "use": "sig", "alg": algorithm, **more}


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


def claims(**changes: object) -> dict[str, object]:
    made = {"iss": ISSUER, "aud": "tercet", "sub": "alice", "exp": WALL + 60, "groups": ["traders"], **changes}
    return {name: value for name, value in made.items() if value is not None}


def issuer(algorithm: str, **changes: Any) -> JwtSettings:
    settings: dict[str, Any] = {"issuer": ISSUER, "audience": "tercet", "algorithm": algorithm, **changes}
    return JwtSettings(**settings)


def token_settings(id_: str, secret: str, **changes: Any) -> TokenSettings:
    return TokenSettings(id_, CHEAP.hash(secret), changes.pop("user", id_), **changes)


@asynccontextmanager
async def running(settings: AuthSettings, **options: Any) -> AsyncIterator[Authenticator]:
    authenticator = Authenticator(settings, FakeClock(), b"k" * 32, **({"offload": Bench(seconds=0.0)} | options))
    async with trio.open_nursery() as nursery:
        await nursery.start(authenticator.run)
        yield authenticator
        nursery.cancel_scope.cancel()


async def refusal(authenticator: Authenticator, token: str) -> RefusedError:
    verdict = await authenticator.verify(token)
    assert isinstance(verdict, RefusedError), verdict
    assert token not in verdict.message
    return verdict


# Static tokens


async def test_static_token(autojump_clock: object, canary: str) -> None:
    settings = AuthSettings(token=(token_settings("feed", canary, user="Feed", groups=("publishers",)),))
    async with running(settings) as authenticator:
        identity = await authenticator.verify(f"feed.{canary}")
        assert identity == Identity("Feed", frozenset({"publishers"}), None, "token:feed")


@pytest.mark.parametrize(
    "form", ["feed.wrong", "feed.", "feed", ".", "", "other.{}", "FEED.{}", "{}", "feed.{} ", "ü.\udc80"]
)
async def test_wrong_static_token(form: str, autojump_clock: object, canary: str) -> None:
    async with running(AuthSettings(token=(token_settings("feed", canary),))) as authenticator:
        verdict = await authenticator.verify(form.format(canary))
        assert isinstance(verdict, RefusedError)
        assert verdict.code == "unauthorized"


async def test_right_token_is_computed_once(autojump_clock: object, canary: str) -> None:
    """Two thousand that come back after a restart with one token cost one verification, and later ones none."""
    bench = Bench()
    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=bench) as authenticator:
        verdicts: list[object] = []

        async def come() -> None:
            verdicts.append(await authenticator.verify(f"feed.{canary}"))

        async with trio.open_nursery() as nursery:
            for _ in range(2000):
                nursery.start_soon(come)
        assert (bench.runs, trio.current_time()) == (1, 1.0)
        assert all(isinstance(verdict, Identity) for verdict in verdicts)
        await come()
        assert (bench.runs, trio.current_time()) == (1, 1.0)


async def test_storm_of_wrong_tokens_is_bounded_and_does_not_keep_others_out(
    autojump_clock: object, canary: str
) -> None:
    bench = Bench()
    settings = AuthSettings(token=(token_settings("feed", canary), token_settings("other", canary)))
    async with running(settings, offload=bench) as authenticator:
        assert isinstance(await authenticator.verify(f"feed.{canary}"), Identity)
        codes: list[str] = []

        async def attack(number: int) -> None:
            codes.append((await refusal(authenticator, f"feed.wrong{number}")).code)

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(attack, number)
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            # One that was verified before is not asked to wait, and another id does not wait for long.
            assert isinstance(await authenticator.verify(f"feed.{canary}"), Identity)
            assert trio.current_time() == began
            assert isinstance(await authenticator.verify(f"other.{canary}"), Identity)
            assert trio.current_time() - began <= MAX_WAITING_PER_ID / THREADS + 1
        assert codes.count("unavailable") == 1000 - MAX_WAITING_PER_ID
        assert bench.most == THREADS
        assert bench.runs == MAX_WAITING_PER_ID + 2


async def test_storm_on_many_ids_is_bounded(autojump_clock: object) -> None:
    bench = Bench()
    hashed = CHEAP.hash("x")
    settings = AuthSettings(token=tuple(TokenSettings(f"t{n}", hashed, "u") for n in range(100)))
    async with running(settings, offload=bench) as authenticator, trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(refusal, authenticator, f"t{number}.wrong")
        await trio.testing.wait_all_tasks_blocked()
        assert (await refusal(authenticator, "t99.another")).retry_after == 1.0
    assert bench.runs == MAX_WAITING


async def test_verification_survives_the_one_who_asked(autojump_clock: object, canary: str) -> None:
    bench = Bench()
    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=bench) as authenticator:
        with trio.move_on_after(0.5):
            await authenticator.verify(f"feed.{canary}")
        assert isinstance(await authenticator.verify(f"feed.{canary}"), Identity)
        assert (bench.runs, trio.current_time()) == (1, 1.0)


@pytest.mark.parametrize("is_right", [True, False])
async def test_who_leaves_before_the_verdict_is_charged_for_a_wrong_token(
    autojump_clock: object, canary: str, *, is_right: bool
) -> None:
    """Else threads could be kept busy for nothing: `failed_tokens` counts verdicts, and nobody would wait for one."""
    charged: list[float] = []
    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=Bench()) as authenticator:
        for _ in range(2):
            with trio.move_on_after(0.4):
                token = f"feed.{canary}" if is_right else "feed.wrong"
                await authenticator.verify(token, lambda: charged.append(trio.current_time()))
        assert charged == []
        await trio.sleep(1)
    assert charged == ([] if is_right else [1.0, 1.0])


async def test_who_leaves_at_the_moment_of_the_verdict_is_charged(autojump_clock: object, canary: str) -> None:
    """What is cancelled and what is known in the same step."""
    charged: list[float] = []
    waiting = trio.CancelScope()

    async def offload(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        await trio.sleep(1)
        waiting.cancel()
        return function()

    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=offload) as authenticator:
        with waiting:
            await authenticator.verify("feed.wrong", lambda: charged.append(trio.current_time()))
        await trio.sleep(1)
    assert charged == [1.0]


async def test_verification_that_fails_ends_nothing(autojump_clock: object, canary: str) -> None:
    """No thread, or no memory: who asks may try again, and nobody else notices."""
    failing = True

    async def offload(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        await trio.lowlevel.checkpoint()
        if failing:
            raise RuntimeError("can't start new thread")
        return function()

    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=offload) as authenticator:
        refused = await refusal(authenticator, f"feed.{canary}")
        assert (refused.code, refused.retry_after) == ("unavailable", 1.0)
        failing = False
        assert isinstance(await authenticator.verify(f"feed.{canary}"), Identity)


async def test_token_that_is_replaced_while_it_is_verified(autojump_clock: object, canary: str) -> None:
    old = AuthSettings(token=(token_settings("feed", canary),))
    async with running(old, offload=Bench()) as authenticator, trio.open_nursery() as nursery:
        nursery.start_soon(refusal, authenticator, f"feed.{canary}")
        await trio.testing.wait_all_tasks_blocked()
        authenticator.replace(AuthSettings(token=(token_settings("feed", "another"),)))


async def test_replace_says_who_is_known_still(autojump_clock: object, keys: Keys, canary: str) -> None:
    same, changed, gone = (token_settings(name, canary) for name in ("same", "changed", "gone"))
    kept, dropped = issuer("ES256", key=keys.file("ES256")), issuer("ES256", issuer="x", key=keys.file("ES256"))
    async with running(AuthSettings(token=(same, changed, gone), jwt=(kept, dropped))) as authenticator:
        review = authenticator.replace(
            AuthSettings(token=(evolve(same, groups=("new",)), token_settings("changed", "another")), jwt=(kept,))
        )
        assert review is not None
        found = {name: review(Identity(name, source=f"token:{name}")) for name in ("same", "changed", "gone")}
        assert found["same"] == Identity("same", frozenset({"new"}), None, "token:same")
        assert (found["changed"], found["gone"]) == (None, None)
        assert review(Identity("a", source=f"jwt:{ISSUER}")) is not None
        assert review(Identity("a", source="jwt:x")) is None
        assert review(Identity("a", source="certificate")) is not None
        assert isinstance(await authenticator.verify(f"changed.{canary}"), RefusedError)
        assert authenticator.replace(authenticator.settings) is None, "everybody stays who they are"


async def test_threads_do_the_work_in_earnest(canary: str) -> None:
    async with running(AuthSettings(token=(token_settings("feed", canary),)), offload=in_thread) as authenticator:
        assert isinstance(await authenticator.verify(f"feed.{canary}"), Identity)
        assert isinstance(await authenticator.verify("feed.wrong"), RefusedError)


# JSON Web Tokens


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
async def test_jwt(algorithm: str, autojump_clock: object, keys: Keys) -> None:
    async with running(AuthSettings(jwt=(issuer(algorithm, key=keys.file(algorithm)),))) as authenticator:
        token = jwt.encode(claims(), keys.private(algorithm), algorithm)
        assert await authenticator.verify(token) == Identity(
            "alice", frozenset({"traders"}), WALL + 60, f"jwt:{ISSUER}"
        )


def forged(header: dict[str, object], body: dict[str, object], signature: bytes = b"") -> str:
    parts = [json.dumps(part).encode() for part in (header, body)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


def signed_with_public_key(keys: Keys, algorithm: str) -> str:
    """The classic: HS256, with the text of the public key as the secret."""
    unsigned = forged({"alg": "HS256", "typ": "JWT"}, claims()).rpartition(".")[0]
    mac = hmac.digest(keys.public_pem(algorithm), unsigned.encode(), hashlib.sha256)
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


ATTACKS: dict[str, Callable[[Keys], str]] = {
    "alg none": lambda _: forged({"alg": "none"}, claims()),
    "alg None": lambda _: forged({"alg": "None"}, claims(), b"x"),
    "alg absent": lambda _: forged({"typ": "JWT"}, claims(), b"x"),
    "alg is a list": lambda _: forged({"alg": ["RS256"]}, claims(), b"x"),
    "confusion RS256 to HS256": lambda keys: signed_with_public_key(keys, "RS256"),
    "another algorithm": lambda keys: jwt.encode(claims(), keys.ec, "ES256"),
    "a stronger algorithm of the same key": lambda keys: jwt.encode(claims(), keys.rsa, "RS512"),
    "another key": lambda _: jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256"),
    "signature cut off": lambda keys: jwt.encode(claims(), keys.rsa, "RS256").rpartition(".")[0] + ".",
    "claims changed": lambda keys: ".".join(
        [
            (parts := jwt.encode(claims(), keys.rsa, "RS256").split("."))[0],
            base64.urlsafe_b64encode(json.dumps(claims(sub="root")).encode()).rstrip(b"=").decode(),
            parts[2],
        ]
    ),
    "expired": lambda keys: jwt.encode(claims(exp=WALL - 1), keys.rsa, "RS256"),
    "expires now": lambda keys: jwt.encode(claims(exp=WALL), keys.rsa, "RS256"),
    "no expiry": lambda keys: jwt.encode(claims(exp=None), keys.rsa, "RS256"),
    "expiry is a text": lambda keys: jwt.encode(claims(exp="tomorrow"), keys.rsa, "RS256"),
    "expiry is endless": lambda keys: jwt.encode(claims(exp=1e300), keys.rsa, "RS256"),
    "expiry is beyond a float": lambda keys: jwt.encode(claims(exp=10**400), keys.rsa, "RS256"),
    "expiry is not a number": lambda keys: jwt.encode(claims(exp=float("nan")), keys.rsa, "RS256"),
    "expiry is a list": lambda keys: jwt.encode(claims(exp=[WALL + 60]), keys.rsa, "RS256"),
    "expiry is negative": lambda keys: jwt.encode(claims(exp=-1), keys.rsa, "RS256"),
    "begins beyond a float": lambda keys: jwt.encode(claims(nbf=-(10**400)), keys.rsa, "RS256"),
    "expiry is true": lambda keys: jwt.encode(claims(exp=True), keys.rsa, "RS256"),
    "not yet valid": lambda keys: jwt.encode(claims(nbf=WALL + 31), keys.rsa, "RS256"),
    "issued in the future": lambda keys: jwt.encode(claims(iat=WALL + 31), keys.rsa, "RS256"),
    "wrong audience": lambda keys: jwt.encode(claims(aud="other"), keys.rsa, "RS256"),
    "no audience": lambda keys: jwt.encode(claims(aud=None), keys.rsa, "RS256"),
    "audience is part of ours": lambda keys: jwt.encode(claims(aud="terc"), keys.rsa, "RS256"),
    "wrong issuer": lambda keys: jwt.encode(claims(iss=ISSUER + "/"), keys.rsa, "RS256"),
    "no issuer": lambda keys: jwt.encode(claims(iss=None), keys.rsa, "RS256"),
    "no user": lambda keys: jwt.encode(claims(sub=None), keys.rsa, "RS256"),
    "empty user": lambda keys: jwt.encode(claims(sub=""), keys.rsa, "RS256"),
    "endless user": lambda keys: jwt.encode(claims(sub="x" * 256), keys.rsa, "RS256"),
    "user is an object": lambda keys: jwt.encode(claims(sub={"a": 1}), keys.rsa, "RS256"),
    "half a character as user": lambda keys: jwt.encode(claims(sub="\ud800"), keys.rsa, "RS256"),
    "half a character as group": lambda keys: jwt.encode(claims(groups=["a\udfff"]), keys.rsa, "RS256"),
    "nested claims": lambda keys: jwt.encode(claims(groups=nested(400)), keys.rsa, "RS256"),
    "groups are a text": lambda keys: jwt.encode(claims(groups="traders"), keys.rsa, "RS256"),
    "groups are objects": lambda keys: jwt.encode(claims(groups=[{}]), keys.rsa, "RS256"),
    "too many groups": lambda keys: jwt.encode(claims(groups=["g"] * 257), keys.rsa, "RS256"),
    "crit": lambda keys: jwt.encode(claims(), keys.rsa, "RS256", headers={"crit": ["exp"]}),
    "kid is a path": lambda _: forged({"alg": "RS256", "kid": "../../../dev/null"}, claims(), b"x"),
    "kid is an object": lambda _: forged({"alg": "RS256", "kid": {}}, claims(), b"x"),
    "kid is endless": lambda _: forged({"alg": "RS256", "kid": "k" * 1000}, claims(), b"x"),
    "header is nested": lambda _: base64.urlsafe_b64encode(b"[" * 4000).decode() + ".e30.e30",
    "header is a list": lambda _: base64.urlsafe_b64encode(b"[1]").decode().rstrip("=") + ".e30.e30",
    "header is no JSON": lambda _: "abc.def.ghi",
    "nothing but dots": lambda _: "..",
    "not ASCII": lambda _: "é.é.é",
    "enormous": lambda keys: jwt.encode(claims(more="x" * 8192), keys.rsa, "RS256"),
    "more enormous": lambda _: "a.b." + "c" * 10_000_000,
    "many dots": lambda _: "." * 8000,
    "encrypted": lambda _: "a.b.c.d.e",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_jwt_attack(attack: str, autojump_clock: object, keys: Keys) -> None:
    """None is let in, and none makes anything raise (A-002)."""
    async with running(AuthSettings(jwt=(issuer("RS256", key=keys.file("RS256")),))) as authenticator:
        assert (await refusal(authenticator, ATTACKS[attack](keys))).code == "unauthorized"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_jwt_public_key_is_no_secret(algorithm: str, autojump_clock: object, keys: Keys) -> None:
    """Confusion, also where another issuer does take HS256."""
    other = issuer("HS256", issuer="https://other.example", key=keys.file("HS256"))
    settings = AuthSettings(jwt=(issuer(algorithm, key=keys.file(algorithm)), other))
    async with running(settings) as authenticator:
        await refusal(authenticator, signed_with_public_key(keys, algorithm))
        await refusal(authenticator, jwt.encode(claims(), keys.secret, "HS256"))


async def test_jwt_headers_that_name_keys_are_not_looked_at(autojump_clock: object, keys: Keys) -> None:
    """jku, x5u, jwk, x5c: the attacker's own key, which nobody fetches."""
    mine = rsa.generate_private_key(65537, 2048)
    own = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    headers = {"jku": "http://attacker.example", "x5u": "http://attacker.example", "jwk": own, "x5c": ["AAAA"]}
    publisher = Publisher([keys.jwk("RS256", "k1")])
    async with running(AuthSettings(jwt=(issuer("RS256", jwks=URL),)), fetch=publisher) as authenticator:
        await refusal(authenticator, jwt.encode(claims(), mine, "RS256", headers={**headers, "kid": "k1"}))
        right = jwt.encode(claims(), keys.rsa, "RS256", headers={**headers, "kid": "k1"})
        assert isinstance(await authenticator.verify(right), Identity)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": WALL - 1}, "the token is not valid: it has expired"),
        ({"aud": "another"}, "the token is not valid: it is for another audience"),
        ({"iss": "nobody"}, "the token is not valid: nobody known here has issued it"),
    ],
)
async def test_of_several_issuers_the_one_that_knows_the_token_says_why(
    autojump_clock: object, keys: Keys, *, is_first: bool, changes: dict[str, Any], reason: str
) -> None:
    """Whichever comes first in the file, and whether the other has another algorithm or another key."""
    others = (issuer("HS256", issuer="b", key=keys.file("HS256")), issuer("ES256", issuer="c", key=keys.file("ES256")))
    own = (issuer("RS256", key=keys.file("RS256")),)
    async with running(AuthSettings(jwt=own + others if is_first else others + own)) as authenticator:
        verdict = await authenticator.verify(jwt.encode(claims(**changes), keys.rsa, "RS256"))
        assert isinstance(verdict, RefusedError)
        assert verdict.message == reason


async def test_jwt_from_a_second_issuer(autojump_clock: object, keys: Keys) -> None:
    settings = AuthSettings(
        jwt=(issuer("ES256", key=keys.file("ES256")), issuer("ES256", issuer="b", key=keys.file("ES256")))
    )
    async with running(settings) as authenticator:
        verdict = await authenticator.verify(jwt.encode(claims(iss="b"), keys.ec, "ES256"))
        assert isinstance(verdict, Identity)
        assert verdict.source == "jwt:b"


async def test_jwt_claims_may_be_others(autojump_clock: object, keys: Keys) -> None:
    settings = issuer("ES256", key=keys.file("ES256"), user_claim="email", groups_claim="roles")
    async with running(AuthSettings(jwt=(settings,))) as authenticator:
        token = jwt.encode(claims(email="a@b", roles=["r"], aud=["x", "tercet"]), keys.ec, "ES256")
        verdict = await authenticator.verify(token)
        assert isinstance(verdict, Identity)
        assert (verdict.user, verdict.groups) == ("a@b", frozenset({"r"}))


# Key sets


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_key_set(algorithm: str, autojump_clock: object, keys: Keys) -> None:
    publisher = Publisher([keys.jwk(algorithm, "old"), keys.jwk(algorithm, "k1")])
    async with running(AuthSettings(jwt=(issuer(algorithm, jwks=URL),)), fetch=publisher) as authenticator:
        token = jwt.encode(claims(), keys.private(algorithm), algorithm, headers={"kid": "k1"})
        for _ in range(3):
            assert isinstance(await authenticator.verify(token), Identity)
        assert len(publisher.fetches) == 1
        await refusal(authenticator, jwt.encode(claims(), keys.private(algorithm), algorithm))  # which of the two?


async def test_key_set_is_not_stormed(autojump_clock: object, keys: Keys) -> None:
    """However many unknown kids come, and however they go away again: one fetch in `PAUSE` seconds."""
    publisher = Publisher([keys.jwk("ES256", "k1")])
    options = {"fetch": publisher, "offload": Bench(seconds=2.0)}
    async with running(AuthSettings(jwt=(issuer("ES256", jwks=URL),)), **options) as authenticator:

        async def attack(number: int) -> None:
            with trio.move_on_after(number % 5):
                await refusal(authenticator, forged({"alg": "ES256", "kid": f"x{number}"}, claims(), b"x"))

        async with trio.open_nursery() as nursery:
            for number in range(int(10 * PAUSE)):
                nursery.start_soon(attack, number)
                await trio.sleep(0.2)
        assert len(publisher.fetches) == 2
        assert publisher.fetches[1] - publisher.fetches[0] >= PAUSE
        token = jwt.encode(claims(exp=WALL + 10_000), keys.ec, "ES256", headers={"kid": "k1"})
        assert isinstance(await authenticator.verify(token), Identity)


async def test_key_set_learns_a_new_key(autojump_clock: object, keys: Keys) -> None:
    publisher = Publisher([keys.jwk("ES256", "k1")])
    async with running(AuthSettings(jwt=(issuer("ES256", jwks=URL),)), fetch=publisher) as authenticator:
        token = jwt.encode(claims(exp=WALL + 10_000), keys.ec, "ES256", headers={"kid": "k2"})
        await refusal(authenticator, token)
        publisher.keys = [keys.jwk("ES256", "k2")]
        await refusal(authenticator, token)
        await trio.sleep(PAUSE)
        assert isinstance(await authenticator.verify(token), Identity)


async def test_key_set_that_cannot_be_fetched_serves_for_an_hour(autojump_clock: object, keys: Keys) -> None:
    publisher = Publisher([keys.jwk("ES256", "k1")])
    async with running(AuthSettings(jwt=(issuer("ES256", jwks=URL),)), fetch=publisher) as authenticator:
        token = jwt.encode(claims(exp=WALL + 10_000), keys.ec, "ES256", headers={"kid": "k1"})
        assert isinstance(await authenticator.verify(token), Identity)
        publisher.error = OSError("nobody there")
        await trio.sleep(REFRESH)
        assert isinstance(await authenticator.verify(token), Identity)
        await trio.sleep(STALE)
        verdict = await refusal(authenticator, token)
        assert verdict.code == "unavailable"
        assert verdict.retry_after is not None
        assert 0 < verdict.retry_after <= PAUSE
        publisher.error = None
        await trio.sleep(PAUSE)
        assert isinstance(await authenticator.verify(token), Identity)


async def test_withdrawn_key_is_not_taken_after_the_next_fetch(autojump_clock: object, keys: Keys) -> None:
    publisher = Publisher([keys.jwk("ES256", "k1")])
    async with running(AuthSettings(jwt=(issuer("ES256", jwks=URL),)), fetch=publisher) as authenticator:
        token = jwt.encode(claims(exp=WALL + 10_000), keys.ec, "ES256", headers={"kid": "k1"})
        assert isinstance(await authenticator.verify(token), Identity)
        publisher.keys = []
        await trio.sleep(REFRESH)
        await authenticator.verify(token)  # begins the fetch
        await trio.testing.wait_all_tasks_blocked()
        await refusal(authenticator, token)


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"alg": "ES384"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kid": 5},
        {"kid": "k" * 300},
        {"d": "AAAA"},
        {"x": "!"},
        {"crv": "secp256k1"},
    ],
)
def test_key_set_leaves_out_what_does_not_serve(keys: Keys, change: dict[str, object]) -> None:
    content = json.dumps({"keys": [keys.jwk("ES256", "good"), {**keys.jwk("ES256", "bad"), **change}, 7]})
    assert list(parse(content.encode(), "ES256")) == ["good"]


def test_key_set_leaves_out_short_rsa_keys(keys: Keys) -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    key = jwt.algorithms.RSAAlgorithm.to_jwk(short.public_key(), as_dict=True)
    assert parse(json.dumps({"keys": [{**key, "kid": "k"}]}).encode(), "RS256") == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": {}}', b"[" * 100_000, b"\xff", b"null"])
def test_key_set_that_is_none(content: bytes) -> None:
    with pytest.raises(FetchError):
        parse(content, "ES256")


def test_key_set_with_too_many_keys() -> None:
    with pytest.raises(FetchError):
        parse(json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(), "ES256")
    assert MAX_BYTES < 2**20


@pytest.mark.parametrize(
    "url",
    ["http://login.example/keys", "file:///etc/passwd", "ftp://x/y", "https://", "https://u:p@x/", "", "keys.json"],
)
def test_key_set_url_that_is_not_safe(url: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_url(url)


class Web(http.server.BaseHTTPRequestHandler):
    """An issuer's server, on loopback, that does what its path says."""

    def do_GET(self) -> None:
        answers: dict[str, tuple[int, bytes]] = {
            "/keys": (200, b'{"keys": []}'),
            "/huge": (200, b"x" * (MAX_BYTES + 1)),
            "/moved": (302, b""),
            "/absent": (404, b""),
        }
        status, body = answers[self.path]
        self.send_response(status)
        self.send_header("Location", "/keys")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # it need not read all of it
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_fetch(web: str) -> None:
    """In earnest; no redirect is followed, and what is too large is not read to the end."""
    assert fetch(f"{web}/keys") == b'{"keys": []}'
    with pytest.raises(FetchError, match="larger"):
        fetch(f"{web}/huge")
    with pytest.raises(FetchError, match="redirects"):
        fetch(f"{web}/moved")
    with pytest.raises(OSError, match="404"):
        fetch(f"{web}/absent")
    with pytest.raises(ValueError, match="must be the URL"):
        fetch("file:///etc/passwd")


# Key files


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("of", ["RS256", "ES256", "EdDSA", "HS256"])
def test_key_file_of_another_kind(algorithm: str, of: str, keys: Keys) -> None:
    if of != algorithm:
        with pytest.raises(ValueError, match="holds no"):
            load_key(keys.file(of), algorithm)


def test_key_file_for_hs256(keys: Keys, tmp_path: Path) -> None:
    """Short ones, and public keys, are refused at load."""
    path = tmp_path / "secret"
    path.write_bytes(b"x" * 31 + b"\n")
    with pytest.raises(ValueError, match="holds 31 bytes; a secret for HS256 has 32 or more"):
        load_key(path, "HS256")
    with pytest.raises(ValueError, match="no shared secret"):
        load_key(keys.file("RS256"), "HS256")


def test_key_file_with_a_private_key(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "private.pem"
    path.write_bytes(keys.ec.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="private key"):
        load_key(path, "ES256")


def test_key_file_with_a_short_rsa_key(tmp_path: Path) -> None:
    short = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - that is the point
    path = tmp_path / "short.pem"
    path.write_bytes(short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match="1024 bits"):
        load_key(path, "RS256")

"""What the runtime can be told: listeners and timeouts. All times are seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError
from attrs import Factory, field, frozen, validators

from ..core.rules import Rule
from ..core.settings import BrokerSettings, positive

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


@frozen
class TlsSettings:
    """Where the certificate chain and its private key are (PEM files)."""

    certificate: Path
    key: Path


@frozen
class ListenerSettings:
    """One place where connections arrive.

    Attributes:
        bind: `HOST:PORT`, `[IPV6]:PORT` (port 0 lets the system choose) or `unix:PATH`.
        path: the only path that is served; others get 404.
        tls: serves wss if given, else ws.
        insecure: allows a plain listener on an address that is not loopback.
        backlog: how many connections the kernel holds for us.
    """

    bind: str
    path: str = "/"
    tls: TlsSettings | None = None
    insecure: bool = False
    backlog: int = field(default=1024, validator=positive)


@frozen
class TimeoutSettings:
    """How long the broker waits.

    Attributes:
        handshake: from accept to a complete request head, TLS included.
        connect: from there to the `connect` request (close code 3008).
        heartbeat: silence in one direction after which the broker pings.
        pong: from that ping to any frame of the client (3008).
        write: how long a peer may take none of what it is sent (4000).
        close: for the goodbye: to flush, to hear the peer's Close, to see its end.
        drain: the window in which a planned stop spreads its closes.
    """

    handshake: float = field(default=10.0, validator=positive)
    connect: float = field(default=10.0, validator=positive)
    heartbeat: float = field(default=25.0, validator=positive)
    pong: float = field(default=10.0, validator=positive)
    write: float = field(default=20.0, validator=positive)
    close: float = field(default=5.0, validator=positive)
    drain: float = field(default=5.0, validator=positive)


def _check_hash(_: object, __: object, value: str) -> None:
    try:
        extract_parameters(value)
    except InvalidHashError as error:
        raise ValueError("must be an argon2 hash, as 'tercet token' prints it") from error


def _check_id(_: object, __: object, value: str) -> None:
    if not value or not value.isascii() or not value.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"must be letters, digits, '-' and '_', not {value!r}")


def _not_empty(_: object, __: object, value: str) -> None:
    if not value:
        raise ValueError("must not be empty")


@frozen
class TokenSettings:
    """A static token, of which only the hash is kept.

    Attributes:
        id: the part of the token before the dot: which hash it is compared with.
        hash: the argon2 hash of the part behind the dot.
        user: whom it stands for.
        groups: what that one belongs to.
    """

    id: str = field(validator=_check_id)
    hash: str = field(validator=_check_hash, repr=False)
    user: str = field(validator=_not_empty)
    groups: tuple[str, ...] = ()


@frozen
class JwtSettings:
    """One issuer of JSON Web Tokens (RFC 7519), and how they are verified.

    Attributes:
        issuer: what `iss` has to be.
        audience: what `aud` has to be, or to contain.
        algorithm: the only one that is taken, whatever a token says of itself.
        key: the issuer's public key (PEM), or the shared secret of HS256, 32 bytes or more.
        jwks: where the issuer's keys are published, an https URL, instead of `key`.
        user_claim: the claim that names the user.
        groups_claim: the claim that holds a list of groups; it may be absent.
    """

    issuer: str = field(validator=_not_empty)
    audience: str = field(validator=_not_empty)
    algorithm: Algorithm = field(validator=validators.in_(ALGORITHMS))
    key: Path | None = None
    jwks: str | None = None
    user_claim: str = field(default="sub", validator=_not_empty)
    groups_claim: str = field(default="groups", validator=_not_empty)

    def __attrs_post_init__(self) -> None:
        """Check what concerns two settings at once."""
        if (self.key is None) == (self.jwks is None):
            raise ValueError("needs either 'key', a file, or 'jwks', a URL")
        if self.jwks is not None and self.algorithm == "HS256":
            raise ValueError("HS256 has a shared secret, which is not published: use 'key'")


@frozen
class AuthSettings:
    """How clients become known.

    Attributes:
        required: whether a `connect` without a token is refused.
        grace: seconds for which a session goes on after its token has expired.
        token: static tokens.
        jwt: issuers whose tokens are taken.
    """

    required: bool = True
    grace: float = field(default=10.0, validator=validators.ge(0))
    token: tuple[TokenSettings, ...] = ()
    jwt: tuple[JwtSettings, ...] = ()


DEFAULT_BIND = "127.0.0.1:8080"


@frozen
class DaemonSettings:
    """Everything the daemon can be told.

    Attributes:
        auth: how clients become known; None leaves everybody anonymous, and tokens without a meaning.
        rules: who may do what; without any, everybody may do everything.
    """

    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(DEFAULT_BIND),)
    broker: BrokerSettings = Factory(BrokerSettings)
    timeouts: TimeoutSettings = Factory(TimeoutSettings)
    auth: AuthSettings | None = None
    rules: tuple[Rule, ...] = ()

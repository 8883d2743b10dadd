"""What the runtime can be told: listeners and timeouts. All times are seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError
from attrs import Factory, evolve, field, frozen, validators

from ..core.rules import Rule
from ..core.settings import KIB, MIB, BrokerSettings, positive

ClientCertificates = Literal["required", "optional"]

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


@frozen
class TlsSettings:
    """What a listener needs for TLS; all files are PEM.

    Attributes:
        certificate: the chain, the server's own certificate first.
        key: its private key.
        client_ca: the authorities that sign clients' certificates; None asks clients for none.
        client_certificates: whether a client must have one. Its name becomes the user.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_certificates: ClientCertificates = field(
        default="required", validator=validators.in_(get_args(ClientCertificates))
    )


@frozen
class ListenerSettings:
    """One place where connections arrive.

    Attributes:
        bind: `HOST:PORT`, `[IPV6]:PORT` (port 0 lets the system choose) or `unix:PATH`.
        path: the only path that is served; others get 404.
        tls: serves wss if given, else ws.
        insecure: allows a plain listener on an address that is not loopback.
        backlog: how many connections the kernel holds for us.
        origins: the web pages, as `scheme://host[:port]`, whose browsers may connect; None lets all.
        allow_no_origin: whether a client may connect that names no page, as programs do.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        proxy_protocol: whether connections from those begin with a PROXY header.
    """

    bind: str
    path: str = "/"
    tls: TlsSettings | None = None
    insecure: bool = False
    backlog: int = field(default=1024, validator=positive)
    origins: tuple[str, ...] | None = None
    allow_no_origin: bool = True
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False


@frozen
class ConnectionSettings:
    """How many connections there may be.

    Attributes:
        total: overall.
        per_address: from one IPv4 address, or one /64 network of IPv6.
        per_user: of one user; anonymous ones are not counted.
        accepts: that are accepted in a second; the rest waits in the kernel.
        handshakes: that have not become a WebSocket yet, overall.
        handshakes_per_address: the same from one address.
        failed_tokens: authentications that may fail in a minute from one address; beyond it none is looked at.
        memory_bytes: resident size of the process beyond which nobody new is let in; None is
            four fifths of what the machine, or the process's control group, has.
    """

    total: int = field(default=50_000, validator=positive)
    per_address: int = field(default=20_000, validator=positive)
    per_user: int = field(default=100, validator=positive)
    accepts: float = field(default=2000.0, validator=validators.ge(1))
    handshakes: int = field(default=2000, validator=positive)
    handshakes_per_address: int = field(default=500, validator=positive)
    failed_tokens: int = field(default=100, validator=positive)
    memory_bytes: int | None = field(default=None, validator=validators.optional(positive))


@frozen
class RateSettings:
    """What one connection, and all connections of one user together, may ask for in a second.

    Attributes:
        requests: messages a second.
        requests_burst: how many at once after a pause.
        bytes: bytes a second.
        bytes_burst: how many at once after a pause.
        frames: pings, pongs and fragments a second.
        frames_burst: how many at once after a pause; more closes the connection with 1008.
        user_factor: how many connections' worth one user has for all of his.
        wait: seconds that a request may be kept waiting by these limits before it gets `rate_limited`.
        abuse: seconds of refusals without a pause after which the connection is closed with 1008.
    """

    requests: float = field(default=100_000.0, validator=positive)
    requests_burst: float = field(default=200_000.0, validator=validators.ge(1))
    bytes: float = field(default=256.0 * MIB, validator=validators.ge(64 * KIB))
    bytes_burst: float = field(default=512.0 * MIB, validator=validators.ge(64 * KIB))
    frames: float = field(default=1000.0, validator=positive)
    frames_burst: float = field(default=10_000.0, validator=validators.ge(1))
    user_factor: float = field(default=4.0, validator=validators.ge(1))
    wait: float = field(default=2.0, validator=positive)
    abuse: float = field(default=30.0, validator=positive)

    def of_user(self) -> RateSettings:
        """Return what all connections of one user may ask for together."""
        factor = self.user_factor
        return evolve(
            self,
            requests=factor * self.requests,
            requests_burst=factor * self.requests_burst,
            bytes=factor * self.bytes,
            bytes_burst=factor * self.bytes_burst,
            frames=factor * self.frames,
            frames_burst=factor * self.frames_burst,
        )


@frozen
class TimeoutSettings:
    """How long the broker waits.

    Attributes:
        handshake: from accept to a complete request head, TLS included.
        connect: from accept to the `connect` request, the handshake included (close code 3008).
        heartbeat: silence in one direction after which the broker pings.
        pong: from that ping to any frame of the client (3008).
        read: how long a peer may take for a message that it has begun, and once more for each …
        read_bytes: … that have come of it (3008).
        write: how long a peer may take for …
        write_bytes: … so much of what it is sent, or for all if that is less; then it is cut off (4000 in the log).
        close: for the goodbye: to flush, to hear the peer's Close, to see its end.
        drain: the window in which a planned stop spreads its closes.
    """

    handshake: float = field(default=10.0, validator=positive)
    connect: float = field(default=10.0, validator=positive)
    heartbeat: float = field(default=25.0, validator=positive)
    pong: float = field(default=10.0, validator=positive)
    read: float = field(default=30.0, validator=positive)
    read_bytes: int = field(default=8 * KIB, validator=positive)
    write: float = field(default=20.0, validator=positive)
    write_bytes: int = field(default=4 * KIB, validator=positive)
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
    connections: ConnectionSettings = Factory(ConnectionSettings)
    rates: RateSettings = Factory(RateSettings)
    auth: AuthSettings | None = None
    rules: tuple[Rule, ...] = ()

"""The HTTP request that becomes a WebSocket, or does not: read, checked and answered here.

trio-websocket never sees what a stranger wrote. A request that passes is
rebuilt from its checked parts, so that nothing unexpected is left in it;
every other one gets the HTTP status that says what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from urllib.parse import parse_qsl

import h11
from attrs import field, frozen

from tercet_protocol import SUBPROTOCOL

from .origins import OriginRule
from .wire import Wire

MAX_HEAD = 16 * 1024  # bytes; nginx and Apache allow 8 KiB a line and more in all
_CHUNK = 4 * 1024
_KEY_BYTES = 16  # RFC 6455, 4.1
_VERSION = "13"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 9110, 11.2
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_TOKEN_NAMES = frozenset(
    {"token", "access_token", "auth_token", "id_token", "auth", "authorization", "bearer", "jwt", "api_key", "apikey"}
)
_PLAIN = frozenset({"http", "ws"})
_HEALTH = "/health"


@frozen
class Upgrade:
    """A request to become a WebSocket that passed every check.

    Attributes:
        key: the `Sec-WebSocket-Key`.
        subprotocol: the one that was agreed on; None if the client offered none.
        trailing: bytes that came behind the head: the first frames, perhaps.
        bearer: the token of `Authorization: Bearer`, or None.
        forwarded_for: the values of `X-Forwarded-For`, for those who believe them.
        is_forwarded_plain: whether `X-Forwarded-Proto` says that the client's own way was not encrypted.
    """

    key: str
    subprotocol: str | None
    trailing: bytes
    bearer: str | None = field(default=None, repr=False)
    forwarded_for: tuple[str, ...] = ()
    is_forwarded_plain: bool = False

    def canonical_request(self) -> bytes:
        """Return the request as trio-websocket shall see it, built from nothing but what was checked."""
        lines = [
            "GET / HTTP/1.1",
            "Host: tercet",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.key}",
            f"Sec-WebSocket-Version: {_VERSION}",
        ]
        if self.subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {self.subprotocol}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class Refusal(Exception):  # noqa: N818 - it is an answer, and no error of anyone where it is 200
    """The request does not become a WebSocket; `response` is what it gets instead.

    Attributes:
        status: the HTTP status.
        reason: one sentence for a person; the body of the response.
        headers: further response headers.
        has_body: whether `reason` is sent; not in answer to HEAD (RFC 9110, 9.3.2).
    """

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.has_body = True

    def response(self) -> bytes:
        """Return the whole HTTP response; the connection closes after it."""
        body = (self.reason + "\n").encode()
        connection = h11.Connection(h11.SERVER)
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("Cache-Control", "no-store"),
            *self.headers,
        ]
        head = connection.send(h11.Response(status_code=self.status, headers=headers))
        return (head or b"") + (body if self.has_body else b"")


class GoneError(Exception):
    """Theirs: the peer went away before it had asked for anything."""


_ANY_ORIGIN = OriginRule()


async def read_upgrade(
    wire: Wire, path: str, *, is_draining: Callable[[], bool], origins: OriginRule = _ANY_ORIGIN
) -> Upgrade:
    """Read a request head from a new connection.

    `is_draining` is asked when the head is whole: a planned stop may begin before that.

    The caller bounds the time. When cancelled, the connection is of no more use.

    Raises:
        Refusal: the request gets an HTTP response and no WebSocket.
        GoneError: the peer sent nothing whole and closed.
        trio.BrokenResourceError: the peer is gone.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            # What h11 says ends with the offending line, which may hold a token.
            what = _printable(str(error).partition(":")[0])
            raise Refusal(error.error_status_hint, f"not a valid HTTP request: {what}") from None
        if event is h11.NEED_DATA:
            data = await wire.receive(_CHUNK)
            if not data:
                raise GoneError
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            break
        else:
            raise Refusal(400, "not a valid HTTP request")
    try:
        headers = _headers(event)
        subprotocol, key, bearer = _check(event, headers, path, is_draining=is_draining(), origins=origins)
    except Refusal as refusal:
        refusal.has_body = event.method != b"HEAD"
        raise
    # What follows the head of a GET without a body is for the other protocol.
    connection.next_event()
    trailing, _ = connection.trailing_data
    is_plain = not _PLAIN.isdisjoint(_tokens(headers, "x-forwarded-proto"))
    return Upgrade(key, subprotocol, trailing, bearer, tuple(headers.get("x-forwarded-for", ())), is_plain)


def _headers(request: h11.Request) -> dict[str, list[str]]:
    """Return {name in lower case: its values}."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode("ascii"), []).append(value.decode("latin-1"))
    return headers


def _check(
    request: h11.Request, headers: dict[str, list[str]], path: str, *, is_draining: bool, origins: OriginRule
) -> tuple[str | None, str, str | None]:
    """Return the agreed subprotocol, the key and the token of a request, or raise the refusal it gets."""
    _refuse_token_in_url(request.target.decode("latin-1"))
    target = _path_of(request.target.decode("latin-1"))
    busy = Refusal(503, "the broker is about to stop", (("Retry-After", "5"),))
    wants_websocket = "websocket" in _tokens(headers, "upgrade")
    if target == _HEALTH and not wants_websocket:
        if request.method not in {b"GET", b"HEAD"}:
            raise Refusal(405, "only GET is served here", (("Allow", "GET"),))
        raise busy if is_draining else Refusal(200, "ok")
    if target != path:
        raise Refusal(404, f"nothing is served at this path; the broker is at {path}")
    if request.method != b"GET" or not wants_websocket or "upgrade" not in _tokens(headers, "connection"):
        raise Refusal(426, "this is a WebSocket endpoint; connect with a WebSocket client", (("Upgrade", "websocket"),))
    if request.http_version != b"1.1":
        raise Refusal(400, "a WebSocket handshake needs HTTP/1.1")
    if headers.get("content-length", ["0"]) != ["0"] or "transfer-encoding" in headers:
        raise Refusal(400, "a WebSocket handshake has no body")
    if headers.get("sec-websocket-version", []) != [_VERSION]:
        raise Refusal(426, "only WebSocket version 13 is spoken here", (("Sec-WebSocket-Version", _VERSION),))
    if is_draining:
        raise busy
    stranger = origins.refusal(headers.get("origin", []))
    if stranger is not None:
        raise Refusal(403, stranger)
    bearer = _bearer(headers.get("authorization", []))
    return _agree_on_subprotocol(headers), _check_key(headers.get("sec-websocket-key", [])), bearer


def _refuse_token_in_url(target: str) -> None:
    """Refuse a URL with a token in its query: URLs are logged everywhere (RFC 6750, 5.3)."""
    query = target.partition("?")[2]
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=None):
        if name.lower() in _TOKEN_NAMES or _JWT.fullmatch(value):
            raise Refusal(
                400,
                "a token does not belong into a URL, which is written to logs on the way; "
                "send it in 'connect', or as 'Authorization: Bearer'. Consider this one as known to others",
            )


def _bearer(values: list[str]) -> str | None:
    """Return the token of the Authorization header (RFC 6750, 2.1); those of other schemes are not for us."""
    if len(values) > 1:
        raise Refusal(400, "Authorization may be given once")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not _TOKEN68.fullmatch(token):
        raise Refusal(400, "'Authorization: Bearer' must be followed by a token")
    return token


def _path_of(target: str) -> str:
    """Return the path of a request's target, which may be a whole URL (RFC 9112, 3.2.2)."""
    path = target.partition("?")[0]
    if path.lower().startswith(("http://", "https://")):
        _, _, rest = path.partition("://")
        path = "/" + rest.partition("/")[2]
    return path


def _check_key(values: list[str]) -> str:
    try:
        (key,) = values
        is_right = len(base64.b64decode(key.encode("ascii"), validate=True)) == _KEY_BYTES
    except (ValueError, binascii.Error):
        is_right = False
    if not is_right:
        raise Refusal(400, "Sec-WebSocket-Key must be 16 bytes in base64, given once")
    return key


def _agree_on_subprotocol(headers: dict[str, list[str]]) -> str | None:
    if "sec-websocket-protocol" not in headers:
        return None
    names = [name.strip() for value in headers["sec-websocket-protocol"] for name in value.split(",")]
    offered = [name for name in names if name]  # empty elements of a list count for nothing (RFC 9110, 5.6.1)
    if not offered or not all(_TOKEN.fullmatch(name) for name in offered):
        raise Refusal(400, "Sec-WebSocket-Protocol must be a list of names")
    if SUBPROTOCOL not in offered:
        raise Refusal(400, f"none of the offered subprotocols is known; known is {SUBPROTOCOL}")
    return SUBPROTOCOL


def _tokens(headers: dict[str, list[str]], name: str) -> set[str]:
    """Return the comma-separated tokens of a header, in lower case."""
    return {token.strip().lower() for value in headers.get(name, []) for token in value.split(",")}


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")

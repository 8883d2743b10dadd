"""How a session finds out who it acts for: `connect`, and `authenticate` for a token that is renewed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tercet_protocol import Authenticate, Authenticated, CloseCode, Connect, Connected, ErrorCode

from .access import Answer
from .errors import RefusedError, error_event
from .identity import ANONYMOUS, Identity
from .moment import Moment

if TYPE_CHECKING:
    from .session import Session

_RETRY_USER = 10.0  # seconds after which a user who has too many connections may have fewer


def connect(session: Session, request: Connect, moment: Moment) -> None:
    """Serve `connect`: welcome who is known, or need not be; have a token verified first.

    Raises:
        RefusedError: somebody has to be known, and is not; or a token came where others may have read it.
    """
    access, known = session.broker.access, session.arrival.identity
    token = session.arrival.bearer if request.token is None else request.token
    if access.takes_tokens and token is not None:
        _ask_whose(session, token, partial(_welcome, session, request))
    elif known is None and access.required:
        raise RefusedError(ErrorCode.UNAUTHORIZED, "who you are is not known; send a 'token' with 'connect'")
    else:
        _welcome(session, request, known or ANONYMOUS, moment)


def _ask_whose(session: Session, token: str, answer: Answer) -> None:
    """Have a token verified; nothing more is received before `answer` was called."""
    if not session.arrival.is_private:
        raise RefusedError(
            ErrorCode.UNAUTHORIZED,
            "tokens are not taken over an unencrypted connection, where others may have read this one; use wss://",
        )
    session.outbox.is_held = True
    session.carrier.authenticate(token, answer)


def _verdict(session: Session, id_: int | None, verdict: Identity | RefusedError) -> Identity | None:
    """Return whose a token is; None if that ends the request."""
    session.outbox.is_held = False
    session.comply()
    if session.is_ended or not session.survives_settling():
        return None
    if isinstance(verdict, Identity):
        return verdict
    session.turn_away(id_, verdict)
    return None


def _welcome(session: Session, request: Connect, verdict: Identity | RefusedError, moment: Moment) -> None:
    identity = _verdict(session, request.id, verdict)
    if identity is None or not _may_enter(session, request, identity):
        return
    session.is_connected = True
    session.wants_pings = request.heartbeat
    session.become(identity, moment)
    broker = session.broker
    session.send(
        Connected(
            id=request.id,
            connection=session.label,
            server=broker.server,
            heartbeat=broker.heartbeat,
            limits=broker.told_limits,
            user=identity.user,
            expires_in=identity.seconds_left(moment),
        )
    )


def _may_enter(session: Session, request: Connect, identity: Identity) -> bool:
    """Count a connection as its user's; False if it ends instead."""
    known, users = session.arrival.identity, session.broker.users
    if known is not None and identity.user != known.user:
        message = "the token is another user's than the certificate; come with one of them alone"
        session.turn_away(request.id, RefusedError(ErrorCode.UNAUTHORIZED, message))
        return False
    if not users.enter(identity.user):
        message = f"there are {users.limit} connections of this user, as many as there may be; close one first"
        session.send(error_event(request.id, ErrorCode.UNAVAILABLE, message, _RETRY_USER))
        session.end(CloseCode.TRY_AGAIN_LATER, "too many connections of this user")
        return False
    return True


def authenticate(session: Session, request: Authenticate) -> None:
    """Serve `authenticate`: have a token verified, and go on under it.

    Raises:
        RefusedError: this broker takes no tokens, or not over this connection.
    """
    if not session.broker.access.takes_tokens:
        raise RefusedError(ErrorCode.UNSUPPORTED, "this broker does not offer 'authenticate'")
    _ask_whose(session, request.token, partial(_renew, session, request))


def _renew(session: Session, request: Authenticate, verdict: Identity | RefusedError, moment: Moment) -> None:
    identity = _verdict(session, request.id, verdict)
    if identity is None:
        return
    if identity.user is None or identity.user != session.identity.user:
        message = "the token is another user's; open a connection of its own for that one"
        session.send(error_event(request.id, ErrorCode.FORBIDDEN, message))
        return
    session.become(identity, moment)
    session.reply(
        request,
        Authenticated(id=request.id, user=identity.user, expires_in=identity.seconds_left(moment)),
    )

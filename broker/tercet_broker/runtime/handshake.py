"""From accept to a request that may become a WebSocket: PROXY header, TLS, request head, one deadline for all.

Whoever does not get through is answered where that is possible, counted by
the reason, and is no concern of the connection's any more.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio
from attrs import define, field

from ..core import Identity
from .admission import Admission, Ticket, Turned, TurnedAwayError
from .certificate_names import UnnamedError, name_of
from .doorway import Doorway
from .networks import IpAddress, forwarded_client
from .proxy_protocol import ProxyHeaderError, ProxyHeaderReader
from .settings import TimeoutSettings
from .upgrade import GoneError, Refusal, Upgrade, read_upgrade
from .wire import Wire

log = structlog.get_logger("tercet")

_DISCARDED = 256 * 1024  # bytes that a peer may still send while it reads its refusal
_REASONS = {403: Turned.ORIGIN, 408: Turned.TIMEOUT}  # {status: what is counted}; other refusals count as REQUEST


def refusal_of(error: TurnedAwayError) -> Refusal:
    """Return what HTTP says to someone who is turned away for a limit."""
    is_its_own = error.why in {Turned.ADDRESS, Turned.ADDRESS_HANDSHAKES}
    return Refusal(429 if is_its_own else 503, str(error), (("Retry-After", f"{error.retry_after:.0f}"),))


@define(eq=False)
class Handshake:
    """The beginning of one connection.

    Attributes:
        address: the client's, as far as it is known: the peer's own, or what a trusted proxy says.
        peer: the same for the logs, with the proxy.
    """

    wire: Wire
    doorway: Doorway
    admission: Admission
    ticket: Ticket
    timeouts: TimeoutSettings
    is_draining: Callable[[], bool]
    address: IpAddress | None = field(init=False)
    peer: str = field(init=False)
    _is_proxied: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with what the socket says."""
        self._is_proxied = self.doorway.trusts(self.wire.address)
        self.address = None if self._is_proxied else self.wire.address
        self.peer = self.wire.peer

    async def run(self) -> Upgrade | None:  # noqa: C901 - a flat list of what may happen
        """Return the request, or None if there is none and the peer has its answer.

        Raises:
            trio.BrokenResourceError: the peer is gone.
        """
        timeouts, stage = self.timeouts, Turned.PROXY
        try:
            with trio.fail_after(timeouts.handshake):
                await self._read_proxy_header()
                stage = Turned.TLS
                try:
                    await self.wire.handshake()
                except trio.BrokenResourceError:
                    if self.wire.is_encrypted:
                        self.admission.turned[Turned.TLS] += 1
                    raise
                stage = Turned.TIMEOUT
                name = name_of(self.wire.certificate())
                if name is not None:
                    self.wire.identity = Identity(name, source="certificate")
                upgrade = await read_upgrade(
                    self.wire, self.doorway.path, is_draining=self.is_draining, origins=self.doorway.origins
                )
                self._read_forwarded(upgrade)
                self.admission.establish(self.ticket, self.address)
                return upgrade
        except GoneError:
            return None
        except ProxyHeaderError as error:
            log.warning("no PROXY header", peer=self.peer, reason=str(error))
            refusal = Refusal(400, f"not a valid PROXY header: {error}")
            self.admission.turned[Turned.PROXY] += 1
            if self.wire.is_encrypted:
                return None
        except trio.TooSlowError:
            if stage is not Turned.TIMEOUT:
                self.admission.turned[stage] += 1
                return None
            refusal = Refusal(408, f"no request within {timeouts.handshake:g} s")
            self.admission.turned[Turned.TIMEOUT] += 1
        except UnnamedError as error:
            refusal = Refusal(403, str(error))
            self.admission.turned[Turned.TLS] += 1
        except TurnedAwayError as error:
            refusal = refusal_of(error)
            if stage is Turned.PROXY and self.wire.is_encrypted:
                return None
        except Refusal as error:
            refusal = error
            self._count(refusal)
        await self._refuse(refusal)
        return None

    async def _read_proxy_header(self) -> None:
        """Read who the client is, where a trusted proxy says that first."""
        if not (self._is_proxied and self.doorway.proxy_protocol):
            return
        reader = ProxyHeaderReader()
        while reader.header is None:
            data = await self.wire.receive(reader.wanted)
            if not data:
                raise GoneError
            reader.feed(data)
        if reader.header.address is not None:
            self._say(reader.header.address, reader.header.port)
            self.admission.locate(self.ticket, self.address)

    def _read_forwarded(self, upgrade: Upgrade) -> None:
        """Believe a trusted proxy's `X-Forwarded-For` and -Proto.

        Where there is a PROXY header, it alone says who the client is, even if it says nothing: who sends one passes
        on bytes, and the request is the client's own.
        """
        if self._is_proxied and upgrade.is_forwarded_plain:
            self.wire.is_private = False
        if self._is_proxied and self.address is None and not self.doorway.proxy_protocol:
            client = forwarded_client(upgrade.forwarded_for, self.doorway.proxies)
            if client is not None:
                self._say(client, 0)

    def _say(self, address: IpAddress, port: int) -> None:
        self.address = address
        host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - of IP
        self.peer = f"{host}:{port} via {self.wire.peer}" if port else f"{address} via {self.wire.peer}"

    def _count(self, refusal: Refusal) -> None:
        if refusal.status == 200:  # noqa: PLR2004 - OK: /health
            return
        draining = refusal.status == 503  # noqa: PLR2004 - Service Unavailable
        self.admission.turned[Turned.DRAINING if draining else _REASONS.get(refusal.status, Turned.REQUEST)] += 1

    async def _refuse(self, refusal: Refusal) -> None:
        """Send a response whole, and wait for the peer to go, so that it is not cut off."""
        level = log.debug if refusal.status == 200 else log.info  # noqa: PLR2004 - somebody looks every second
        level("handshake refused", peer=self.peer, status=refusal.status, reason=refusal.reason)
        with trio.move_on_after(self.timeouts.close):
            await self.wire.send_all(refusal.response())
            await self.wire.send_eof()
            budget = _DISCARDED
            while budget > 0 and (data := await self.wire.receive(budget)):
                budget -= len(data)

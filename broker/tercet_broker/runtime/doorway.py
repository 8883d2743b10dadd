"""What a listener asks of those who come in, made ready for use from its settings."""

from __future__ import annotations

from attrs import Factory, frozen

from .networks import IpAddress, IpNetwork, is_within, parse_network
from .origins import OriginRule
from .settings import ListenerSettings


@frozen
class Doorway:
    """The rules of one listener.

    Attributes:
        path: the only path that is served.
        origins: which web pages may connect.
        proxies: the networks of trusted proxies.
        proxy_protocol: whether connections from those begin with a PROXY header.
        insecure: whether tokens are taken although others may read them on the way.
    """

    path: str = "/"
    origins: OriginRule = Factory(OriginRule)
    proxies: tuple[IpNetwork, ...] = ()
    proxy_protocol: bool = False
    insecure: bool = False

    @classmethod
    def of(cls, settings: ListenerSettings) -> Doorway:
        """Return the rules that these settings mean."""
        allowed = None if settings.origins is None else frozenset(settings.origins)
        return cls(
            settings.path,
            OriginRule(allowed, settings.allow_no_origin),
            tuple(parse_network(text) for text in settings.trusted_proxies),
            settings.proxy_protocol,
            settings.insecure,
        )

    def trusts(self, address: IpAddress | None) -> bool:
        """Tell whether a proxy that this listener believes is at that address (None: a Unix socket's peer)."""
        return is_within(address, self.proxies)

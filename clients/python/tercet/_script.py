"""One thing done and gone: for scripts."""

from __future__ import annotations

import logging

from msgspec import Raw

from tercet_protocol import Position

from ._client import connect
from ._message import Live, Message, Published
from ._supervisor import Dial, Token

logger = logging.getLogger("tercet")


async def publish(  # noqa: PLR0913 - those of `connect` and `Client.publish` that a script needs
    url: str,
    topic: str,
    data: object | Raw,
    *,
    retain: bool = False,
    key: str | None = None,
    token: Token | None = None,
    insecure: bool = False,
    dial: Dial | None = None,
) -> Published:
    """Connect, publish one message, disconnect. Raises what `connect` and `Client.publish` raise."""
    async with connect(url, token=token, insecure=insecure, dial=dial) as client:
        return await client.publish(topic, data, retain=retain, key=key)


async def fetch(  # noqa: PLR0913 - those of `connect` and `Client.subscribe` that a script needs
    url: str,
    filter: str,  # noqa: A002 - the wire's word
    *,
    last: int | None = None,
    since: Position | str | None = None,
    retained: bool | None = None,
    token: Token | None = None,
    insecure: bool = False,
    dial: Dial | None = None,
) -> list[Message]:
    """Connect, return what is kept of `filter` (the newest `last`, last values), disconnect.

    A gap is logged as a warning by `logging.getLogger("tercet")`. Raises what
    `connect` and `Client.subscribe` raise.
    """
    messages: list[Message] = []
    async with (
        connect(url, token=token, insecure=insecure, dial=dial) as client,
        client.subscribe(filter, last=last, since=since, retained=retained) as subscription,
    ):
        async for event in subscription.events():
            if isinstance(event, Live):
                break
            if isinstance(event, Message):
                messages.append(event)
            else:
                logger.warning("messages may be missing from %r: %s", filter, event)
    return messages

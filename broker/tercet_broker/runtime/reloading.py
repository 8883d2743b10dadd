"""What a reload does to listeners: all that may fail is done first, and then the change is one step."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from attrs import frozen

from .doorway import Doorway
from .listeners import SocketListener, make_tls_context
from .settings import ListenerSettings


@frozen
class Replacement:
    """What a listener will ask of those who come from now on."""

    listener: SocketListener
    doorway: Doorway
    context: ssl.SSLContext | None

    def commit(self) -> None:
        """Put it into place. A handshake that has begun goes on with what it began with."""
        self.listener.doorway, self.listener.context = self.doorway, self.context


def prepare_listeners(
    opened: Sequence[SocketListener], settings: Sequence[ListenerSettings]
) -> tuple[list[Replacement], tuple[str, ...]]:
    """Return what is to be replaced, and what of these settings waits for a restart.

    New contexts are built from what the files hold now: one that failed to
    load a pair would be broken from then on, so none is changed in place.

    Raises:
        OSError: a certificate or key cannot be used.
        ValueError: a network or origin is none.
    """
    wanted = {one.bind: one for one in settings}
    replacements, waiting = [], []
    contexts: dict[str, ssl.SSLContext | None] = {}
    for listener in opened:
        new = wanted.get(listener.settings.bind)
        if new is None:
            waiting.append(f"listener {listener.settings.bind}, which is to end")
            continue
        if (new.tls is None) != (listener.context is None) or new.backlog != listener.settings.backlog:
            waiting.append(f"listener {new.bind}: tls or not, and backlog")
            continue
        if new.bind not in contexts:
            contexts[new.bind] = None if new.tls is None else make_tls_context(new.tls)
        replacements.append(Replacement(listener, Doorway.of(new), contexts[new.bind]))
    there = {listener.settings.bind for listener in opened}
    waiting += [f"listener {bind}, which is new" for bind in wanted if opened and bind not in there]
    return replacements, tuple(dict.fromkeys(waiting))

"""Tercet without something that makes it fast, to measure what that is worth.

    python without.py PORT lane|runs|passing

Without the *lane*, every frame goes through trio-websocket. Without *runs*,
every message is queued for every subscriber by itself. Without *passing*, a
run is queued even where nothing stands before it. Nothing else differs.
"""

from __future__ import annotations

import logging
import sys

import structlog
import trio

from tercet_broker.core.fanout import FanOut
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings


def main() -> None:
    """Serve until killed."""
    port, what = sys.argv[1:3]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = DaemonSettings(
        listeners=(ListenerSettings(bind=f"127.0.0.1:{port}"),), timeouts=TimeoutSettings(heartbeat=3600)
    )
    daemon = Daemon(settings, lane=what != "lane")
    if what == "runs":
        daemon.broker.fan_out.settle_soon = None  # at once, then
    if what == "passing":
        FanOut.close_run = FanOut.settle  # type: ignore[method-assign]
    trio.run(daemon.run)


if __name__ == "__main__":
    main()

"""Tercet's broker. `tercet_broker.core` is what it does, `tercet_broker.runtime` how it touches the world."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("tercet")

"""Fixtures for tests that want no seeds: a broker in memory, and a client of it. They need pytest-trio."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_trio

import tercet

from .memory import MemoryBroker, memory_broker


@pytest_trio.trio_fixture
async def tercet_broker() -> AsyncIterator[MemoryBroker]:
    """A broker in memory, for the length of a test."""
    async with memory_broker() as broker:
        yield broker


@pytest_trio.trio_fixture
async def tercet_client(tercet_broker: MemoryBroker) -> AsyncIterator[tercet.Client]:
    """A client of `tercet_broker`."""
    async with tercet_broker.connect() as client:
        yield client

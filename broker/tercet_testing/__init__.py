"""What tests of programs that use Tercet need: a real broker in memory, on whatever clock the test runs.

async def test_board_shows_the_last_price(autojump_clock):
async with memory_broker() as broker, broker.connect() as client:
...
"""

from __future__ import annotations

from .memory import MemoryBroker, MemoryListener, memory_broker

__all__ = ["MemoryBroker", "MemoryListener", "memory_broker"]

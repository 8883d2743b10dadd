"""Publish a random walk of prices, one every tenth of a second, until interrupted."""

import random
import sys
from contextlib import suppress

import tercet
import trio

SYMBOLS = ("AAPL", "MSFT", "NVDA")


async def feed(url: str) -> None:
    prices = dict.fromkeys(SYMBOLS, 100.0)
    async with tercet.connect(url) as client:
        while True:
            symbol = random.choice(SYMBOLS)
            prices[symbol] = round(prices[symbol] + random.uniform(-1, 1), 2)
            await client.publish(f"prices/{symbol}", {"bid": prices[symbol]}, retain=True)
            await trio.sleep(0.1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(feed, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080")

"""Show every price as it changes, and remember how far we were from one run to the next."""

import sys
from contextlib import suppress
from pathlib import Path

import tercet
import trio

BOOKMARK = Path("board.position")


async def board(url: str, *, count: int | None = None) -> None:
    since = BOOKMARK.read_text() if BOOKMARK.exists() else None
    async with tercet.connect(url) as client, client.subscribe("prices/+", since=since) as prices:
        async for event in prices.events():
            match event:
                case tercet.Message():
                    print(f"{event.seq:>6}  {event.topic:<14} {event.data['bid']:>8.2f}", flush=True)
                case tercet.Gap():
                    print(f"        missed some: {event.reason}", flush=True)
            if prices.position:  # there is none before the last values are through
                BOOKMARK.write_text(str(prices.position))
            if count is not None and isinstance(event, tercet.Message) and (count := count - 1) == 0:
                return


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(board, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080")

"""The bridge to asyncio, as docs/how-to/asyncio.md shows it. The real broker runs in a bridge's own Trio thread."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog
import trio

import tercet
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, open_daemon

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "asyncio.md"
PATIENCE = 30.0  # seconds: whoever waits for so long has hung, however loaded the machine is


@pytest.fixture
def bridge() -> Iterator[Any]:
    """The page's module."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    code = next(block for block in blocks if "class TrioThread" in block)
    module = ModuleType("tercet_asyncio")
    sys.modules[module.__name__] = module
    exec(compile(code, str(PAGE), "exec"), module.__dict__)  # noqa: S102 - our own page
    threads = threading.active_count()
    yield module
    del sys.modules[module.__name__]
    assert threading.active_count() <= threads  # (one that Trio kept for others may have gone meanwhile)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the broker's log off the terminal, in its own thread as well."""
    structlog.configure(processors=[structlog.testing.LogCapture()])
    yield
    structlog.reset_defaults()


@asynccontextmanager
async def broker(bridge: Any, path: Path) -> AsyncIterator[str]:
    settings = DaemonSettings(
        (ListenerSettings(f"unix:{path}/socket"),), timeouts=TimeoutSettings(drain=0.05, close=0.5)
    )
    async with bridge.TrioThread() as thread, thread.entered(open_daemon(Daemon(settings))):
        yield f"ws+unix://{path}/socket"


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


def test_publish_and_subscribe(bridge: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            broker(bridge, tmp_path) as url,
            bridge.connect(url) as client,
            client.subscribe("a/+") as subscription,
        ):
            for n in range(100):
                published = await client.publish("a/x", n)
                assert published.position.seq == n + 1
            assert [(await anext(subscription)).data for _ in range(100)] == list(range(100))
            assert subscription.position == published.position
            page = await client.history("a/x")
            assert page.head == published.position

    run(test())


def test_cancelled_iteration_loses_nothing(bridge: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            broker(bridge, tmp_path) as url,
            bridge.connect(url) as client,
            client.subscribe("a/x") as subscription,
        ):
            for n in range(20):
                reading = asyncio.ensure_future(anext(subscription))
                for _ in range(n):
                    await asyncio.sleep(0)
                reading.cancel()
                await client.publish("a/x", n)
                try:
                    assert (await reading).data == n
                except asyncio.CancelledError:
                    assert (await anext(subscription)).data == n

    run(test())


def test_cancelled_call_is_cancelled_over_there(bridge: Any) -> None:
    async def test() -> None:
        seen: list[str] = []

        async def wait() -> None:
            try:
                await trio.sleep_forever()
            finally:
                seen.append("cancelled")

        async with bridge.TrioThread() as thread:
            call = asyncio.ensure_future(thread.call(wait))
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert seen == ["cancelled"]
            left = asyncio.ensure_future(thread.call(wait))
            await asyncio.sleep(0.01)
        with pytest.raises(tercet.ClosedClientError):
            await left
        with pytest.raises(tercet.ClosedClientError):
            await thread.call(wait)

    run(test())


def test_errors_come_through(bridge: Any, tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(tercet.CannotConnectError):
            async with bridge.connect(f"ws+unix://{tmp_path}/nobody"):
                pytest.fail("connected")
        async with broker(bridge, tmp_path) as url, bridge.connect(url) as client:
            with pytest.raises(tercet.RefusedError, match="invalid_topic"):
                await client.publish("a//x", 1)
            with pytest.raises(ValueError, match="empty level"):
                async with client.subscribe("a//x"):
                    pytest.fail("subscribed")
            with pytest.raises(ZeroDivisionError):
                async with client.subscribe("a/x"):
                    raise ZeroDivisionError

    run(test())


def test_cancelled_program_ends_the_thread(bridge: Any, tmp_path: Path) -> None:
    async def program(url: str, entered: asyncio.Event) -> None:
        async with bridge.connect(url) as client, client.subscribe("a/x") as subscription:
            entered.set()
            async for _ in subscription:
                pytest.fail("nobody published")

    async def test() -> None:
        async with broker(bridge, tmp_path) as url:
            entered = asyncio.Event()
            running = asyncio.ensure_future(program(url, entered))
            await entered.wait()
            await asyncio.sleep(0.01)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            for passes in range(30):  # cancelled while it enters, ever further in
                running = asyncio.ensure_future(program(url, asyncio.Event()))
                for _ in range(passes):
                    await asyncio.sleep(0)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running

    run(test())

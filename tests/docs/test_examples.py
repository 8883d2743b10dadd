"""The programs that the documentation shows, run as they stand there."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

import tercet
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, open_daemon
from tercet_testing import SimulationError, Suite, run_seed

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SETTINGS = DaemonSettings(listeners=(ListenerSettings("127.0.0.1:0"),))


async def publish_to_a_board(client: tercet.Client, daemon: Daemon, topic: str, bid: int) -> None:
    """Publish once the board is live, so that it gets this message and then has a position."""
    while not any(space.subscribers for space in daemon.statistics().namespaces):
        await trio.lowlevel.checkpoint()
    await client.publish(topic, {"bid": bid})


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_tutorial_feed_publishes_and_retains() -> None:
    random.seed(1)
    async with open_daemon(Daemon(SETTINGS)) as (url,), trio.open_nursery() as nursery:
        nursery.start_soon(load("feed").feed, url)
        async with tercet.connect(url) as client, client.subscribe("prices/+") as prices:
            with trio.fail_after(10):
                first = await prices.receive()
        async with tercet.connect(url) as client, client.subscribe(first.topic) as prices:
            with trio.fail_after(10):
                kept = await prices.receive()
        nursery.cancel_scope.cancel()
    assert set(first.data) == {"bid"}
    assert kept.retained


async def test_tutorial_board_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    board = load("board").board
    daemon = Daemon(SETTINGS)
    async with open_daemon(daemon) as (url,), tercet.connect(url) as client:
        for bid in range(2):
            await client.publish("prices/AAPL", {"bid": bid}, retain=True)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish_to_a_board, client, daemon, "prices/AAPL", 2)
                await board(url, count=2)
            for bid in range(3, 6):
                await client.publish(f"prices/{bid}", {"bid": bid})
            await board(url, count=3)
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if "prices/" in line]
    assert [int(seq) for seq, _, _ in shown] == [2, 3, 4, 5, 6]


async def test_tutorial_board_says_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The handover run is 256 messages: whoever stayed away for 300 is told so."""
    monkeypatch.chdir(tmp_path)
    board = load("board").board
    daemon = Daemon(SETTINGS)
    async with open_daemon(daemon) as (url,), tercet.connect(url) as client:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish_to_a_board, client, daemon, "prices/AAPL", 1)
                await board(url, count=1)
            async with client.pipeline() as out:
                for _ in range(300):
                    await out.publish("prices/AAPL", {"bid": 2})
            await board(url, count=1)
    assert "missed some: expired" in capsys.readouterr().out


async def test_embedded_broker_counts_seconds(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sockets answer at once on loopback, and the seconds between are virtual."""
    autojump_clock.autojump_threshold = 0.05
    await load("embedded").main(3)
    heard = [line for line in capsys.readouterr().out.splitlines() if line.startswith("heard")]
    assert heard == ["heard 0", "heard 1", "heard 2"]


def test_readme_simulation_passes() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES.parents[1] / "README.md").read_text(), re.DOTALL)
    (simulated,) = [block for block in blocks if "@simulate" in block]
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(simulated, "README.md", "exec"), namespace)  # noqa: S102 - it is ours
    namespace["test_ticker_survives_a_partition"]()


async def test_readme_client_prints_what_it_publishes(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (EXAMPLES.parents[1] / "README.md").read_text(), re.DOTALL)
    (shown,) = [block for block in blocks if "tercet.connect" in block]
    async with open_daemon(Daemon(SETTINGS)) as (url,):
        program = shown.replace("ws://127.0.0.1:8080", url).replace("trio.run(main)", "")
        namespace: dict[str, Any] = {"__name__": "readme"}
        exec(compile(program, "README.md", "exec"), namespace)  # noqa: S102 - it is ours
        out = ""
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(namespace["main"])
                while "to go on from here" not in out:
                    await trio.lowlevel.checkpoint()
                    out += capsys.readouterr().out
                nursery.cancel_scope.cancel()
    assert "prices/AAPL 1 {'bid': 187.2}" in out


def test_hypothesis_shrinks_what_the_simulation_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the race of the how-to in it again, two bids are enough, the smallest there can be."""
    module = load("test_auction_bids")
    monkeypatch.setattr(module.House, "consider", load("racy_auction").House.consider)
    tried: list[list[int]] = []
    auction = module.auction

    def remember(bids: list[int]) -> Any:
        tried.append(bids)
        return auction(bids)

    monkeypatch.setattr(module, "auction", remember)
    # The same strategies, without a database and with the same draws each time.
    given = hypothesis.given(bids=st.lists(st.integers(1, 100), min_size=1, max_size=4), seed=st.integers(0, 9999))
    settings = hypothesis.settings(database=None, deadline=None, derandomize=True)
    with pytest.raises(AssertionError):
        settings(given(module.test_the_highest_bid_wins.hypothesis.inner_test))()
    assert sorted(tried[-1]) == [1, 2]


def test_racy_auction_fails_as_the_how_to_shows(tmp_path: Path) -> None:
    """The decorated scenario is taken apart, so that its report can be read instead of raised."""
    scenario, _, policies, _, _ = load("racy_auction").test_the_highest_bid_wins.simulation
    suite = Suite("racy", scenario, policies=policies, traces=tmp_path)
    with pytest.raises(SimulationError) as failure:
        suite.run(range(200))
    report = str(failure.value)
    assert "AssertionError" in report
    assert "delays of the network" in report
    replayed = re.search(r"fails with seed (\d+) under policy '(\w+)'", report)
    assert replayed is not None
    again = run_seed(scenario, int(replayed[1]), policy=replayed[2])
    assert isinstance(again.error, AssertionError)

"""Scenarios as pytest and `tercet simulate` run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tercet_testing.command import simulate_command

SCENARIOS = '''
import trio
from tercet_testing import SimulatedBroker, SimulatedClient, simulate  # these have a `simulation`, too

@simulate(seeds=30)
async def test_order(sim):
    """The one that was started last shall be the last."""
    order = []

    async def run(number):
        await sim.sleep(1)
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(run, number)
    assert order[-1] == 2, f"the order was {order}"

@simulate(seeds=5, sometimes=["even"])
async def test_fine(sim):
    await sim.broker()
    feed = await sim.client("feed")
    await feed.publish("news/x", sim.seed)
    sim.sometimes("even", sim.seed % 2 == 0)

@simulate(seeds=30)
async def test_chatty(sim):
    print(f"here is seed {sim.seed}")
    await sim.sleep(1)
    assert sim.seed != 7

@simulate(seeds=2, sometimes=["the moon"])
async def test_never(sim):
    await sim.sleep(1)
'''

FIXTURE = """
import pytest
from tercet_testing import simulate

@pytest.fixture
def number():
    return 7

@simulate(seeds=2)
async def test_with_a_fixture(sim, number):
    assert number == 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_scenarios.py").write_text(SCENARIOS)
    (tmp_path / "test_fixture.py").write_text(FIXTURE)
    return tmp_path


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_failure_is_replayed_by_its_own_command(folder: Path) -> None:
    """In one go, all that pytest says: the passing one, the one never reached, the seed, and its replay."""
    first = run_pytest(folder)
    assert first.returncode == 1
    assert "3 failed, 2 passed" in first.stdout
    assert "none of 2 runs was ever the moon" in first.stdout
    found = re.search(r"replay it:  pytest (-k test_order --sim-seed=(\d+) --sim-policy=(\w+))", first.stdout)
    assert found is not None
    assert (folder / ".sim-traces" / f"test_order-{found[2]}-{found[3]}.trace").is_file()
    again = run_pytest(folder, *found[1].split())
    assert again.returncode == 1
    assert "AssertionError: the order was" in again.stdout


def test_single_seed_need_not_reach_everything(folder: Path) -> None:
    result = run_pytest(folder, "-k", "test_fine or test_never", "--sim-seed=1", "--sim-traces=elsewhere")
    assert "1 passed" in result.stdout or "2 passed" in result.stdout


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(simulate_command, arguments, standalone_mode=False)
    code = result.return_value if result.exception is None else 2
    return int(code or 0), result.stdout, result.stderr


def test_command_runs_and_sums_up(folder: Path) -> None:
    code, out, _ = invoke(str(folder / "test_scenarios.py"), "--only", "test_fine", "--seeds", "4")
    assert code == 0
    assert re.match(r"passed  test_fine: 4 runs in .* virtual seconds, .* deliveries and .* steps a second", out)
    assert "even in 2" in out


def test_command_runs_only_what_is_decorated(folder: Path) -> None:
    """Not the classes that a scenario imports for its annotations."""
    code, out, _ = invoke(str(folder / "test_scenarios.py"), "--seed", "1", "--traces", str(folder / "traces"))
    assert code in {0, 1}
    assert re.findall(r"test_\w+(?=: 1 runs)", out) == ["test_order", "test_fine", "test_chatty", "test_never"]


def test_command_reports_a_failure(folder: Path, tmp_path: Path) -> None:
    path = str(folder / "test_scenarios.py")
    code, out, err = invoke(path, "--only", "test_order", "--seeds", "30", "--traces", str(tmp_path / "traces"))
    assert code == 1
    assert out.startswith("FAILED  test_order")
    found = re.search(r"replay it:  tercet simulate \S+ --only test_order --seed (\d+) --policy (\w+)", err)
    assert found is not None
    code, _, err = invoke(
        path, "--only", "test_order", "--seed", found[1], "--policy", found[2], "--traces", str(tmp_path / "traces")
    )
    assert code == 1
    assert "the order was" in err


def test_command_shows_what_the_failing_run_prints_and_no_other(folder: Path) -> None:
    path = str(folder / "test_scenarios.py")
    code, out, err = invoke(path, "--only", "test_chatty", "--seeds", "30", "--traces", str(folder / "traces"))
    assert code == 1
    assert re.findall(r"here is seed \d+", out + err) == ["here is seed 7"]
    assert "(no race)" not in err


def test_command_shows_what_the_seed_prints_that_was_asked_for(folder: Path) -> None:
    """Once, although seed 0 runs twice."""
    path = str(folder / "test_scenarios.py")
    assert invoke(path, "--only", "test_chatty", "--seeds", "5")[1].count("here is") == 0
    assert invoke(path, "--only", "test_chatty", "--seed", "0")[1].count("here is seed 0") == 1


def test_command_tells_what_was_never_reached(folder: Path) -> None:
    code, _, err = invoke(str(folder / "test_scenarios.py"), "--only", "test_never", "--seeds", "2")
    assert code == 1
    assert "none of 2 runs was ever the moon" in err


def test_command_spreads_over_processes(folder: Path) -> None:
    code, out, _ = invoke(str(folder / "test_scenarios.py"), "--only", "test_fine", "--seeds", "50", "--jobs", "2")
    assert code == 0
    assert "50 runs" in out
    assert "even in 25" in out


def test_command_refuses_what_is_no_scenario(folder: Path) -> None:
    code, _, _ = invoke(str(folder / "test_scenarios.py"), "--only", "test_nothing")
    assert code == 2

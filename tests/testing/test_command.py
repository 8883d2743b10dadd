"""Scenarios as pytest and `tercet simulate` run them."""

from __future__ import annotations

import os
import re
import shlex
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
    assert "none of 2 runs was ever 'the moon'" in first.stdout
    found = re.search(
        r"replay it:  pytest (test_scenarios.py::test_order --sim-seed=(\d+) --sim-policy=(\w+))", first.stdout
    )
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
    assert "PYTHONHASHSEED" not in err
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
    assert "none of 2 runs was ever 'the moon'" in err


def test_command_spreads_over_processes(folder: Path) -> None:
    code, out, _ = invoke(str(folder / "test_scenarios.py"), "--only", "test_fine", "--seeds", "50", "--jobs", "2")
    assert code == 0
    assert "50 runs" in out
    assert "even in 25" in out


def test_command_refuses_what_is_no_scenario(folder: Path) -> None:
    code, _, _ = invoke(str(folder / "test_scenarios.py"), "--only", "test_nothing")
    assert code == 2


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project: a scenario that imports what lies beside it, and what lies in the root."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (tmp_path / "rooted.py").write_text("NAME = 'rooted'\n")
    (folder / "lying_beside.py").write_text("NAME = 'beside'\n")
    (folder / "test_beside.py").write_text(
        "import lying_beside, rooted\n"
        "from tercet_testing import simulate\n"
        "@simulate()\n"
        "async def test_it(sim):\n"
        "    print(lying_beside.NAME, rooted.NAME)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder / "test_beside.py"


def run_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tercet_broker", "simulate", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_command_imports_what_lies_beside_the_file_and_in_the_working_directory(beside: Path, jobs: str) -> None:
    result = run_command("tests/test_beside.py", "--seed", "1", "--jobs", jobs, cwd=beside.parent.parent)
    assert result.returncode == 0, result.stderr
    assert "beside rooted" in result.stdout


def test_command_imports_a_module_of_a_package(beside: Path) -> None:
    """Then its parents' folder is where its imports begin, as with pytest."""
    (beside.parent / "__init__.py").touch()
    beside.write_text(
        beside.read_text().replace("import lying_beside, rooted", "import rooted\nfrom . import lying_beside")
    )
    result = run_command("tests/test_beside.py", "--seed", "1", cwd=beside.parent.parent)
    assert result.returncode == 0, result.stderr


def test_command_says_why_a_file_cannot_be_imported(beside: Path) -> None:
    beside.write_text("def load():\n    import is_not_there\nload()\n")
    result = run_command("tests/test_beside.py", cwd=beside.parent.parent)
    assert result.returncode != 0
    assert "test_beside.py cannot be imported: ModuleNotFoundError: No module named 'is_not_there'" in result.stderr
    assert re.findall(r'File "(?:.*/)?([^/"]+)", line (\d+)', result.stderr) == [
        ("test_beside.py", "3"),
        ("test_beside.py", "2"),
    ]


@pytest.mark.parametrize("wrong", ["--seeds 0", "--jobs 0", "--seed -3", "--first -1"])
def test_command_refuses_numbers_that_make_no_sense(folder: Path, wrong: str) -> None:
    result = CliRunner().invoke(simulate_command, [str(folder / "test_scenarios.py"), *wrong.split()])
    assert result.exit_code == 2
    assert wrong.split(maxsplit=1)[0] in result.stderr


@pytest.mark.parametrize("wrong", ["--sim-seeds=0", "--sim-seeds=-3", "--sim-seed=-3", "--sim-seed=x"])
def test_plugin_refuses_numbers_that_make_no_sense(folder: Path, wrong: str) -> None:
    result = run_pytest(folder, wrong)
    assert result.returncode == 4
    assert f"argument {wrong.partition('=')[0]}:" in result.stderr


def test_command_replays_once_and_does_not_shrink(folder: Path) -> None:
    path = str(folder / "test_scenarios.py")
    traces = folder / "traces"
    code, out, err = invoke(path, "--only", "test_chatty", "--seed", "7", "--traces", str(traces))
    assert code == 1
    assert "assert sim.seed != 7\n        where sim.seed = 7" in err
    assert f"its trace:  {traces}" in err
    assert "shrunk" not in err
    assert out.count("here is seed 7") == 1


def test_command_reports_the_lowest_seed_of_several_processes(folder: Path) -> None:
    """Seeds of a later chunk fail sooner."""
    path = folder / "test_slow.py"
    path.write_text(
        "import trio\n"
        "from tercet_testing import simulate\n"
        "@simulate()\n"
        "async def test_slow(sim):\n"
        "    for _ in range(1 if sim.seed >= 20 else 3000):\n"
        "        await trio.lowlevel.checkpoint()\n"
        "    assert sim.seed < 15\n"
    )
    _, _, err = invoke(str(path), "--seeds", "40", "--jobs", "2", "--traces", str(folder / "traces"))
    assert "test_slow fails with seed 15 " in err


METHODS = """
import pytest
from tercet_testing import simulate

class TestX:
    @pytest.mark.parametrize("seats", [1, 2])
    @simulate(seeds=3)
    async def test_m(self, sim, seats):
        await sim.sleep(1)
        assert isinstance(self, TestX)
        assert seats == 1, "only one seat"
"""


def test_replay_names_the_test_of_a_class_and_its_parameter(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "test_methods.py").write_text(METHODS)
    first = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in first.stdout
    found = re.search(r"replay it:  pytest (.*)", first.stdout)
    assert found is not None
    arguments = shlex.split(found[1])
    assert arguments[0] == "deep/test_methods.py::TestX::test_m[2]"
    assert (tmp_path / ".sim-traces" / "TestX_test_m_2-0-fair.trace").is_file()
    again = run_pytest(tmp_path, *arguments)
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout
    assert "only one seat" in again.stdout


SETS = """
from tercet_testing import simulate

@simulate(seeds=3)
async def test_set(sim):
    order = []
    for name in {"ann", "bob", "cid", "dora", "eve", "fay"}:
        await sim.sleep(ord(name[0]) / 1000)
        order.append(name)
    assert order != sorted(order)[::-1][:0]
    assert sim.seed < 1, order
"""


@pytest.mark.parametrize("own", ["random", "7"])
def test_replay_says_the_hash_seed_if_it_needs_it(tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order of strings in a set is one of this process; a fixed one is named, and else one that fails, too."""
    monkeypatch.setenv("PYTHONHASHSEED", own)
    (tmp_path / "test_sets.py").write_text(SETS)
    result = run_pytest(tmp_path)
    found = re.search(r"replay it:  PYTHONHASHSEED=(\d+) pytest (.*)", result.stdout)
    assert found is not None
    assert found[1] == ("7" if own == "7" else "0")
    assert "does it iterate a set of strings?" in result.stdout
    command = run_command("test_sets.py", "--seeds", "3", cwd=tmp_path)
    assert f"replay it:  PYTHONHASHSEED={found[1]} tercet simulate test_sets.py" in command.stderr

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.bars import Bar
from tests.benchmarks.results import Results, Sample, Spread


def results() -> Results:
    """Three rounds in which the machine became slower and slower, and one of them failed for the peer."""
    found = Results(versions={"tercet": "1", "nats": "2"})
    for number, (ours, theirs) in enumerate([(1.0, 2.0), (3.0, 4.0), (8.0, 10.0)], 1):
        found.samples += [
            Sample("1-100", "tercet", number, {"us": ours}),
            Sample("1-100", "nats", number, {"us": theirs}),
        ]
    found.samples += [Sample("1-100", "tercet", 4, {"us": 100.0}), Sample("1-100", "nats", 4, {}, "lost a message")]
    return found


def test_ratio_is_taken_within_each_round_that_has_both() -> None:
    assert results().ratio("us", ("1-100", "tercet"), ("1-100", "nats")) == Spread(0.75, 0.5, 0.8)


def test_bar_is_a_ratio_or_a_figure() -> None:
    assert Bar("1-100", "us", 0.8, ("1-100", "nats")).spread(results()) == Spread(0.75, 0.5, 0.8)
    assert Bar("1-100", "us", 0.8).spread(results()) == Spread(5.5, 1.0, 100.0)
    assert Bar("idle", "kib", 20.0).spread(results()) is None


def test_growth_is_told_beside_the_growth_of_the_floor() -> None:
    """Within each round; and only where Tercet is compared with itself."""
    found = Results()
    for number, (few, many) in enumerate([(1.0, 2.0), (2.0, 5.0), (4.0, 12.0)], 1):
        found.samples += [
            Sample("crowd-100", "floor", number, {"us": few}),
            Sample("crowd-1000", "floor", number, {"us": many}),
        ]
    assert Bar("crowd-1000", "us", 1.5, ("crowd-100", "tercet")).floor(found) == Spread(2.5, 2.0, 3.0)
    assert Bar("crowd-1000", "us", 1.5, ("crowd-100", "nats")).floor(found) is None
    assert Bar("crowd-1000", "us", 1.5).floor(found) is None


def test_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    results().save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json")
    assert (loaded.samples, loaded.versions) == (results().samples, results().versions)
    assert [sample.error for sample in loaded.errors()] == ["lost a message"]


def test_joined_runs_hold_each_work_once() -> None:
    """Ratios are taken within a round of one run, and never across two."""
    again = Results(versions={"tercet": "1", "floor": "python"})
    again.samples += [Sample("1-100", "tercet", 1, {"us": 7.0}), Sample("idle", "tercet", 1, {"kib": 20.0})]
    joined = Results.joined([results(), again])
    assert joined.works() == ("1-100", "idle")
    assert joined.by_round("1-100", "tercet", "us") == {1: 7.0}
    assert joined.by_round("1-100", "nats", "us") == {}
    assert joined.versions == {"tercet": "1", "nats": "2", "floor": "python"}

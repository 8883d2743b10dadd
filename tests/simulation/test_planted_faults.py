"""The simulation finds bugs: each planted fault, within 500 seeds."""

from __future__ import annotations

import pytest
import trio
from tests.simulation.faults import FAULTS, Fault
from tests.simulation.planted import PAGE, hunt

from tercet_testing import BrokerFaultError, run_seed


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_planted_fault_is_found(fault: Fault) -> None:
    """And the same seeds pass without it."""
    found = hunt(fault)
    assert found is not None
    error = found.outcome.error
    # Anything else would mean that the stand-in does not fit the code any more.
    assert isinstance(error, AssertionError | trio.TooSlowError)
    assert not isinstance(error, BrokerFaultError)
    policies = fault.scenario.simulation[2]
    for seed in range(found.seeds):
        outcome = run_seed(fault.scenario.simulation[0], seed, policy=policies[seed % len(policies)])
        assert outcome.error is None


def test_table_names_every_fault() -> None:
    page = PAGE.read_text()
    missing = [fault.name for fault in FAULTS if f"**{fault.name}**: {fault.what}" not in page]
    assert missing == []

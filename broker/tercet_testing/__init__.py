"""What tests of programs that use Tercet need.

- `simulate` makes a scenario a test: real broker, real clients, a virtual
  network and a virtual clock, all from one seed, under many seeds.
- `memory_broker` is a real broker in memory, for tests that want no seeds.
"""

from __future__ import annotations

from .history import History
from .memory import MemoryBroker, MemoryListener, memory_broker
from .network import Link, Network
from .running import BrokerFaultError, Outcome, Scenario, run_seed
from .simulate import simulate
from .suite import NotDeterminedError, SimulationError, Suite
from .watch import DeadlockError, LivelockError, StuckError
from .wiretap import ContractError
from .world import (
    HostClock,
    NeverReachedError,
    NoProgressError,
    SimulatedBroker,
    SimulatedClient,
    SimulatedSubscription,
    Simulation,
)

__all__ = [
    "BrokerFaultError",
    "ContractError",
    "DeadlockError",
    "History",
    "HostClock",
    "Link",
    "LivelockError",
    "MemoryBroker",
    "MemoryListener",
    "Network",
    "NeverReachedError",
    "NoProgressError",
    "NotDeterminedError",
    "Outcome",
    "Scenario",
    "SimulatedBroker",
    "SimulatedClient",
    "SimulatedSubscription",
    "Simulation",
    "SimulationError",
    "StuckError",
    "Suite",
    "memory_broker",
    "run_seed",
    "simulate",
]

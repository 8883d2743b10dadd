"""The rounds: every work, every broker in turn, and again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trustme
from attrs import evolve, frozen

from .baselines import BARE, FLOOR, NAIVE, NO_LANE, NO_PASSING, NO_RUNS
from .cores import Cores
from .measuring import Pace, measure
from .mosquitto import Mosquitto
from .nats import Nats
from .peer import Certificate, Peer, Setting
from .process import BrokerError
from .results import Results, Sample
from .tercet import Tercet
from .works import Arriving, Fanout, Idle, Work

BEFORE = "before"


def all_peers(before: Path | None = None) -> dict[str, Peer]:
    """Return {name: peer}, in the order of the tables; `before` is another checkout of Tercet."""
    peers: list[Peer] = [Tercet(), Nats(), Mosquitto(), NAIVE, BARE, FLOOR, NO_LANE, NO_PASSING, NO_RUNS]
    if before is not None:
        peers.insert(1, Tercet(BEFORE, before))
    return {peer.name: peer for peer in peers}


@frozen
class Plan:
    """What is to be measured."""

    works: Sequence[Work]
    peers: Mapping[str, Peer]
    rounds: int
    pace: Pace
    cores: Cores

    def peers_of(self, work: Work) -> list[Peer]:
        """Return who is measured at `work`: where Tercet is, there is the other checkout too."""
        names = [name for peer in work.peers for name in ((peer, BEFORE) if peer == "tercet" else (peer,))]
        return [self.peers[name] for name in names if name in self.peers and self.peers[name].missing is None]

    @property
    def measurements(self) -> int:
        return self.rounds * sum(len(self.peers_of(work)) for work in self.works)


def run_rounds(plan: Plan, results: Results, done: Callable[[Sample], None]) -> None:
    """Measure all of the plan; call `done` after each measurement.

    The order of the brokers moves on by one with each round, so that none
    always runs after the same other one. A failure is a sample too.
    """
    with tempfile.TemporaryDirectory(prefix="tercet-benchmark-") as name:
        certificate = _make_certificate(Path(name))
        for number in range(1, plan.rounds + 1):
            for work in plan.works:
                peers = plan.peers_of(work)
                first = number % max(len(peers), 1)
                for peer in [*peers[first:], *peers[:first]]:
                    setting = Setting(Path(name), plan.cores)
                    match work:
                        case Fanout(tls=tls, history=history):
                            setting = evolve(setting, certificate=certificate if tls else None, history=history)
                        case Arriving(tls=True):
                            setting = evolve(setting, certificate=certificate)
                        case Idle(seconds=seconds) if seconds:
                            setting = evolve(setting, heartbeats=True)
                    sample = _take(work, peer, number, setting, plan.pace)
                    results.samples.append(sample)
                    done(sample)


def _take(work: Work, peer: Peer, number: int, setting: Setting, pace: Pace) -> Sample:
    try:
        return Sample(work.name, peer.name, number, measure(work, peer, setting, pace))
    except (BrokerError, OSError) as error:
        return Sample(work.name, peer.name, number, {}, f"{type(error).__name__}: {error}")


def _make_certificate(folder: Path) -> Certificate:
    """Make an authority and a certificate for loopback, as `tercet certificate` does."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate = Certificate(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(certificate.authority)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate.chain, append=True)
    issued.private_key_pem.write_to_path(certificate.key)
    return certificate

"""What simulations have found, each as the smallest scenario that shows it."""

from __future__ import annotations

from tests.simulation.brokers import small_broker
from tests.simulation.finale import conclude
from tests.simulation.reader import read

import tercet
from tercet_testing import Simulation, simulate


@simulate(seeds=3)
async def test_gap_comes_before_the_mark_of_live(sim: Simulation) -> None:
    """A resume with a loss and nothing to replay was `live` at once, and its gap came after that.

    An application that stored its position at the mark, and ended there, would
    never have heard of the loss. Found by test_broker_crashes_and_comes_back,
    seed 1, policy starve.
    """
    broker = await sim.broker(small_broker())
    feed, screen = await sim.client("feed"), await sim.client("screen")
    reader = await read(sim, screen, "news/#")
    await feed.publish("news/x", 1)
    await sim.eventually(lambda: reader.seqs == [1], within=1)
    await broker.restart()
    await sim.eventually(lambda: reader.gaps, within=60)
    await sim.sleep(1)
    assert [type(event) for event in reader.events] == [tercet.Live, tercet.Message, tercet.Gap, tercet.Live]
    await conclude(sim, feed, [reader])

"""An auction house with a race in it. Bids come in on bids/…, the highest one is announced."""

import tercet
import trio
from tercet_testing import Simulation, simulate


class House:
    def __init__(self, client: tercet.Client) -> None:
        self.client = client
        self.highest = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with self.client.subscribe("bids/+") as bids, trio.open_nursery() as nursery:
            task_status.started()
            async for bid in bids:
                nursery.start_soon(self.consider, bid.data)

    async def consider(self, bid: int) -> None:
        if bid > self.highest:
            await self.client.publish("auction/lot-1", bid, retain=True)
            self.highest = bid


@simulate(seeds=200)
async def test_the_highest_bid_wins(sim: Simulation) -> None:
    await sim.broker()
    house = House((await sim.client("house")).client)
    await sim.nursery.start(house.run)
    anna, bert = await sim.client("anna"), await sim.client("bert")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(anna.publish, "bids/anna", 10)
        nursery.start_soon(bert.publish, "bids/bert", 20)
    await sim.sleep(1)
    assert house.highest == 20

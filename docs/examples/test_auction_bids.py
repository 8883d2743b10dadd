"""An auction house again: hypothesis draws the bids, and the seed under which they race."""

import tercet
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from tercet_testing import Scenario, Simulation, run_seed


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
            self.highest = bid  # before the await: no other bid is considered in between
            await self.client.publish("auction/lot-1", bid, retain=True)


def auction(bids: list[int]) -> Scenario:
    async def scenario(sim: Simulation) -> None:
        await sim.broker()
        house = House((await sim.client("house")).client)
        await sim.nursery.start(house.run)
        bidders = [await sim.client(f"bidder{number}") for number in range(len(bids))]
        async with trio.open_nursery() as nursery:
            for bidder, bid in zip(bidders, bids, strict=True):
                nursery.start_soon(bidder.publish, f"bids/{bidder.host}", bid)
        await sim.sleep(1)
        assert house.highest == max(bids)

    return scenario


@settings(deadline=None)
@given(bids=st.lists(st.integers(1, 100), min_size=1, max_size=4), seed=st.integers(0, 9999))
def test_the_highest_bid_wins(bids: list[int], seed: int) -> None:
    run_seed(auction(bids), seed).check()

"""A broker that stops as planned and comes back, and an application that notices nothing."""

import trio
from tercet_testing import Simulation, simulate


@simulate(seeds=3)
async def test_scores_survive_a_planned_stop(sim: Simulation) -> None:
    broker = await sim.broker()
    game, board = await sim.client("game"), await sim.client("board")
    async with board.subscribe("scores/+") as scores:
        await game.publish("scores/chess", 1)
        assert (await scores.receive()).data == 1
        await broker.drain()  # returns when it has stopped
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.publish, "scores/chess", 2)  # waits until it is connected again
            await sim.sleep(5)
            await broker.start(memory=True)  # with the log that it had, as with a durable history
        assert (await scores.receive()).data == 2


@simulate(seeds=20, sometimes=["in trouble"])
async def test_scores_arrive_in_chaos(sim: Simulation) -> None:
    broker = await sim.broker()
    game, board = await sim.client("game"), await sim.client("board")

    async def cut() -> None:
        sim.network.partition("board", "broker")
        await sim.sleep(20)
        sim.network.heal()

    async def restart() -> None:
        await broker.restart(memory=True)

    async with board.subscribe("scores/+") as scores, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: sim.chaos({"cut": cut, "restart": restart}, times=3, every=(1, 10)))
        for score in range(10):
            await game.publish("scores/chess", score)
            sim.sometimes("in trouble", broker.lives > 1)
            assert (await scores.receive()).data == score
            await sim.sleep(3)

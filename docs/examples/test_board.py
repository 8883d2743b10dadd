"""Tests of an application that uses Tercet: a real broker, in memory, on a virtual clock."""

import trio
from tercet import Client
from tercet_testing import MemoryBroker, memory_broker


class Scoreboard:
    """The application: shows the last score of each game, and which games have gone quiet."""

    QUIET_AFTER = 30.0

    def __init__(self) -> None:
        self.scores: dict[str, int] = {}
        self.heard_at: dict[str, float] = {}

    async def run(self, broker: MemoryBroker, *, task_status: trio.TaskStatus[None]) -> None:
        async with broker.connect() as client, client.subscribe("scores/+") as scores:
            task_status.started()
            async for message in scores:
                self.scores[message.topic] = message.data
                self.heard_at[message.topic] = trio.current_time()

    def quiet(self) -> set[str]:
        now = trio.current_time()
        return {game for game, at in self.heard_at.items() if now - at >= self.QUIET_AFTER}


async def test_scoreboard_shows_the_last_score(autojump_clock: trio.testing.MockClock) -> None:
    board = Scoreboard()
    async with memory_broker() as broker, broker.connect() as game, trio.open_nursery() as nursery:
        await nursery.start(board.run, broker)
        await game.publish("scores/chess", 1)
        await game.publish("scores/chess", 2)
        await trio.testing.wait_all_tasks_blocked()
        assert board.scores == {"scores/chess": 2}
        nursery.cancel_scope.cancel()


async def test_scoreboard_notices_a_quiet_game(autojump_clock: trio.testing.MockClock) -> None:
    board = Scoreboard()
    async with memory_broker() as broker, broker.connect() as game, trio.open_nursery() as nursery:
        await nursery.start(board.run, broker)
        await game.publish("scores/chess", 1)
        await trio.sleep(20)  # virtual: takes no time
        await game.publish("scores/go", 1)
        await trio.sleep(10)
        assert board.quiet() == {"scores/chess"}
        nursery.cancel_scope.cancel()


async def test_a_quiet_game_is_heard_of_again(
    autojump_clock: trio.testing.MockClock, tercet_broker: MemoryBroker, tercet_client: Client, nursery: trio.Nursery
) -> None:
    board = Scoreboard()
    await nursery.start(board.run, tercet_broker)
    await tercet_client.publish("scores/chess", 1)
    await trio.sleep(60)
    assert board.quiet() == {"scores/chess"}
    await tercet_client.publish("scores/chess", 2)
    await trio.testing.wait_all_tasks_blocked()
    assert board.quiet() == set()

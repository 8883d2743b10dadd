"""Books that do not balance are found at the step that did it, whoever else there is."""

from __future__ import annotations

import pytest

from tercet_broker.core.accounting import Account
from tercet_testing import Simulation, run_seed
from tercet_testing.books import Books


def test_book_that_was_written_to_must_balance() -> None:
    books, account = Books(), Account()
    books.sources.append(lambda: [("other", Account()), ("mine", account)])
    with books.watched():
        account.offered += 1
        with pytest.raises(AssertionError, match=r"the books of mine do not balance: .*offered=1"):
            books.check()
        account.queued += 1
        books.check()


def test_book_that_nobody_wrote_to_is_not_looked_at() -> None:
    """So that a step costs what it touches, however many books there are."""

    books, spoilt = Books(), Account(offered=1)
    books.sources.append(lambda: [("spoilt before", spoilt)])
    with books.watched():
        books.check()
        Account().closed = 0
        books.check()


def test_book_of_a_connection_that_has_ended_must_balance() -> None:
    """Its session is forgotten, while what it had queued may still be flushed."""
    books, account = Books(), Account()
    with books.watched():
        account.queued -= 1
        with pytest.raises(AssertionError, match="the books of a connection that has ended do not balance"):
            books.check()


def test_full_look_finds_what_was_not_seen_to_be_written() -> None:
    books, account = Books(), Account(offered=1)
    books.sources.append(lambda: [("mine", account)])
    books.check()
    with pytest.raises(AssertionError, match="the books of mine do not balance"):
        books.check_all()


def test_account_is_as_before_after_a_run() -> None:
    with Books().watched():
        assert "__setattr__" in vars(Account)
    assert "__setattr__" not in vars(Account)


async def _connect(sim: Simulation) -> Account:
    broker = await sim.broker()
    for number in range(3):
        await sim.client(f"c{number}")
    return broker.daemon.broker.sessions[1].outbox.account


def test_run_ends_at_the_step_that_unbalances_a_book() -> None:
    after: list[float] = []

    async def scenario(sim: Simulation) -> None:
        account = await _connect(sim)
        account.delivered += 1
        await sim.sleep(0)
        after.append(sim.now)

    error = run_seed(scenario, 0).error
    assert isinstance(error, AssertionError)
    assert "the books of 2-" in str(error)
    assert not after


def test_run_ends_with_a_look_at_all_books() -> None:
    async def scenario(sim: Simulation) -> None:
        object.__setattr__(await _connect(sim), "delivered", 1)

    error = run_seed(scenario, 0).error
    assert isinstance(error, AssertionError)
    assert "the books of 2-" in str(error)

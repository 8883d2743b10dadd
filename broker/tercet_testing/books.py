"""The books of the brokers in a world: after every step, those that it wrote to must balance.

Whether an account balances depends on its own figures alone. Who is not
written to balances as before, so a look at those that a step wrote to finds
what a look at all of them would, at the step in which it happens, and costs
what the step costs instead of what the crowd does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from unittest import mock

from attrs import define, field

from tercet_broker.core.accounting import Account


@define(eq=False)
class Books:
    """All books of a run.

    Attributes:
        sources: each yields the books of one broker as they are now, with their names.
    """

    sources: list[Callable[[], Iterable[tuple[str, Account]]]] = field(factory=list)
    _written: dict[Account, None] = field(factory=dict)  # since the last look; an ordered set

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note whatever is written to any account in this block."""
        written = self._written

        def write(account: Account, name: str, value: object) -> None:
            object.__setattr__(account, name, value)
            written[account] = None

        with mock.patch.object(Account, "__setattr__", write):
            yield

    def check(self) -> None:
        """Demand that those balance that were written to since the last look, of ended connections too.

        Raises:
            AssertionError: the first that does not.
        """
        if not self._written:
            return
        for account in self._written:
            if not _balances(account):
                raise AssertionError(_complaint(self._name_of(account), account))
        self._written.clear()

    def check_all(self) -> None:
        """Demand that every book balances that there is; raises as `check` does."""
        for name, account in self._all():
            if not _balances(account):
                raise AssertionError(_complaint(name, account))

    def _all(self) -> Iterator[tuple[str, Account]]:
        for source in self.sources:
            yield from source()

    def _name_of(self, account: Account) -> str:
        return next((name for name, other in self._all() if other is account), "a connection that has ended")


def _balances(account: Account) -> bool:
    # `Account.statistics().balanced` without the copy: it is asked after every step.
    return account.offered == (
        account.delivered + account.conflated + account.overflowed + account.closed + account.queued
    )


def _complaint(name: str, account: Account) -> str:
    return f"the books of {name} do not balance: {account.statistics()}"

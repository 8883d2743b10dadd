"""Records in order, against a list: any may be taken out, and any part be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core.accounting import Account
from tercet_broker.core.log import Record
from tercet_broker.core.ordered import OrderedRecords
from tercet_broker.core.topic import Topic

TOPIC = Topic("t", ("t",), b"", lambda _: None)


def record(seq: int) -> Record:
    return Record(TOPIC, seq, 0, 0.0, b"", 0, 0, Account())


def seqs(records: list[Record]) -> list[int]:
    return [record.seq for record in records]


@given(
    st.integers(0, 3000),
    st.integers(1, 5),
    st.sets(st.integers(0, 2999)),
    st.sampled_from([range(0), range(400, 1700), range(2, 3000), range(0, 3000, 2)]),
    st.lists(st.tuples(st.integers(-1, 15_001), st.integers(0, 1100)), min_size=1, max_size=20),
)
def test_ordered_records_are_what_a_list_would_be(
    count: int, step: int, taken: set[int], more: range, reads: list[tuple[int, int]]
) -> None:
    records = [record(number * step) for number in range(count)]
    ordered = OrderedRecords()
    for one in records:
        ordered.append(one)
    out = {number for number in taken | set(more) if number < count}
    for number in sorted(out, key=lambda number: number * 7919 % 3001):
        ordered.remove(records[number])
    left = [one.seq for number, one in enumerate(records) if number not in out]
    assert len(ordered) == len(left)
    for seq, limit in reads:
        assert seqs(ordered.after(seq, limit)) == [one for one in left if one > seq][:limit]
        assert seqs(ordered.before(seq, limit)) == [one for one in left if one < seq][::-1][:limit]


def test_record_that_is_not_there_cannot_be_taken_out() -> None:
    ordered = OrderedRecords()
    first, second = record(3), record(5)
    with pytest.raises(KeyError):
        ordered.remove(first)
    ordered.append(first)
    for stranger in (second, record(3), record(1)):
        with pytest.raises(KeyError):
            ordered.remove(stranger)
    ordered.remove(first)
    ordered.append(second)
    assert seqs(ordered.after(0, 9)) == [5]

"""Idempotency keys: how long, for whom, and how many."""

from __future__ import annotations

import pytest

from tercet_broker.core import RefusedError
from tercet_broker.core.keys import KeyMemory
from tercet_protocol import ErrorCode

KEY = "k" * 16


def remember(keys: KeyMemory, key: str = KEY, *, user: str | None = None, seq: int = 7, now: float = 0.0) -> None:
    assert keys.recall(user, key, "t/a", b"1", owner=1, now=now) is None
    keys.remember(user, key, "t/a", b"1", owner=1, seq=seq, now=now)


@pytest.mark.parametrize(("now", "expected"), [(0.0, 7), (299.999, 7), (300.0, None), (301.0, None)])
def test_key_is_remembered_for_its_time_exactly(now: float, expected: int | None) -> None:
    """[P-010]"""
    keys = KeyMemory(300.0, 10)
    remember(keys)
    assert keys.recall(None, KEY, "t/a", b"1", owner=1, now=now) == expected


def test_key_is_not_kept_longer_by_repetition() -> None:
    keys = KeyMemory(300.0, 10)
    remember(keys)
    assert keys.recall(None, KEY, "t/a", b"1", owner=1, now=200.0) == 7
    assert keys.recall(None, KEY, "t/a", b"1", owner=1, now=300.0) is None


@pytest.mark.parametrize(("topic", "data"), [("t/b", b"1"), ("t/a", b"2"), ("t/a", b"1.0")])
def test_key_with_another_topic_or_data_is_reused(topic: str, data: bytes) -> None:
    """[P-011]; what was remembered stays."""
    keys = KeyMemory(300.0, 10)
    remember(keys)
    with pytest.raises(RefusedError) as refusal:
        keys.recall(None, KEY, topic, data, owner=1, now=1.0)
    assert refusal.value.code is ErrorCode.KEY_REUSED
    assert refusal.value.retry_after is None
    assert keys.recall(None, KEY, "t/a", b"1", owner=1, now=1.0) == 7


def test_key_belongs_to_its_user() -> None:
    keys = KeyMemory(300.0, 10)
    remember(keys, user="ada", seq=1)
    remember(keys, user="bob", seq=2)
    remember(keys, seq=3)
    assert [keys.recall(user, KEY, "t/a", b"1", owner=1, now=1.0) for user in ("ada", "bob", None)] == [1, 2, 3]


def test_full_key_memory_refuses_new_keys_until_the_oldest_goes() -> None:
    """[P-012]: none is forgotten before its time; `retry_after` is when there will be room."""
    keys = KeyMemory(300.0, 4)
    remember(keys, "a" * 16, now=0.0)
    remember(keys, "b" * 16, now=10.0)
    with pytest.raises(RefusedError) as refusal:
        keys.recall(None, "c" * 16, "t/a", b"1", owner=1, now=100.0)
    assert refusal.value.code is ErrorCode.UNAVAILABLE
    assert refusal.value.retry_after == 200.0
    assert keys.recall(None, "a" * 16, "t/a", b"1", owner=1, now=100.0) == 7
    assert len(keys) == 2
    remember(keys, "c" * 16, now=300.0)


def test_key_memory_expires_in_order() -> None:
    keys = KeyMemory(300.0, 10)
    for number in range(5):
        remember(keys, f"{number:016}", now=float(number))
    keys.expire(301.5)
    assert len(keys) == 3


def test_nobody_holds_more_keys_than_are_free() -> None:
    """One owner cannot take all: there is some left for the next."""
    keys = KeyMemory(300.0, 100)
    taken = []
    for owner in (1, 2, "ada"):
        count = 0
        while True:
            key = f"{owner}-{count:016}"
            try:
                assert keys.recall(None, key, "t/a", b"1", owner=owner, now=0.0) is None
            except RefusedError:
                break
            keys.remember(None, key, "t/a", b"1", owner=owner, seq=1, now=0.0)
            count += 1
        taken.append(count)
    assert taken == [50, 25, 13]
    keys.expire(300.0)
    assert keys.recall(None, KEY, "t/a", b"1", owner=1, now=300.0) is None

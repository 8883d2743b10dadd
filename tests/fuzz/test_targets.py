"""Every target of the fuzzer, shortly: its seeds, and what hypothesis makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz import targets


@pytest.mark.parametrize("name", targets.NAMES)
def test_target_finds_nothing(name: str) -> None:
    target = targets.load(name)
    for one in target.seeds:
        target.run(one)
    pieces = st.sampled_from([*target.seeds, *target.words]) | st.binary(max_size=30)
    inputs = st.builds(
        lambda seed, at, middle, skip: seed[: at % (len(seed) + 1)] + b"".join(middle) + seed[skip % (len(seed) + 1) :],
        st.sampled_from(list(target.seeds)),
        st.integers(0, 4096),
        st.lists(pieces, max_size=6),
        st.integers(0, 4096),
    )

    @settings(max_examples=60)
    @given(inputs)
    def run(data: bytes) -> None:
        target.run(data)

    run()

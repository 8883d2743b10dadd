from __future__ import annotations

import importlib.util
import sys

import pytest
import websockets.utils
from hypothesis import given
from hypothesis import strategies as st

from tercet_protocol import apply_mask


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_every_byte_is_masked_with_the_key_again_and_again(payload: bytes, key: bytes) -> None:
    """RFC 6455, 5.3; of both forms that the library may have, for either may be installed."""
    expected = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
    assert apply_mask(payload, key) == expected
    assert websockets.utils.apply_mask(payload, key) == expected


@given(st.binary(max_size=5000), st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_the_payload_back(payload: bytes, key: bytes) -> None:
    assert apply_mask(apply_mask(payload, key), key) == payload


def test_where_there_is_no_c_the_form_in_python_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)  # what makes its import fail
    spec = importlib.util.find_spec("tercet_protocol.masking")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.apply_mask is websockets.utils.apply_mask

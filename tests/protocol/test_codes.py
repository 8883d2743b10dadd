"""The tables of codes, exactly; and what a client does after each."""

from __future__ import annotations

import pytest

from tercet_protocol import CloseCode, ErrorCode, GapReason, Reaction, reaction_to_close, reaction_to_status

ERRORS = """
bad_request unsupported invalid_topic invalid_filter unauthorized forbidden too_large too_many_subscriptions
duplicate_id key_reused unknown_subscription rate_limited unavailable internal
"""
CLOSES = {
    1000: Reaction.RECONNECT,
    1001: Reaction.RECONNECT,
    1002: Reaction.STOP,
    1003: Reaction.STOP,
    1005: Reaction.RECONNECT,
    1006: Reaction.RECONNECT,
    1007: Reaction.STOP,
    1008: Reaction.STOP,
    1009: Reaction.STOP,
    1011: Reaction.RECONNECT,
    1012: Reaction.RECONNECT,
    1013: Reaction.RECONNECT,
    3000: Reaction.RENEW,
    3003: Reaction.STOP,
    3008: Reaction.RECONNECT,
    4000: Reaction.RECONNECT,
    4500: Reaction.STOP,
}


def test_error_codes_are_those_of_the_contract() -> None:
    assert [code.value for code in ErrorCode] == ERRORS.split()


def test_close_codes_are_those_of_the_contract() -> None:
    assert [int(code) for code in CloseCode] == list(CLOSES)


def test_gap_reasons_are_those_of_the_contract() -> None:
    assert {reason.value for reason in GapReason} == {
        "expired",
        "overflow",
        "unknown_position",
        "epoch",
        "reconnected",
    }


@pytest.mark.parametrize(("code", "reaction"), CLOSES.items())
def test_reaction_to_each_close_code(code: int, reaction: Reaction) -> None:
    """E-020 (the client's half)."""
    assert reaction_to_close(code) is reaction


@pytest.mark.parametrize("code", [1010, 1014, 1015, 2000, 3001, 4001, 4999, 0])
def test_unknown_close_codes_are_like_1006(code: int) -> None:
    """E-021."""
    assert reaction_to_close(code) is Reaction.RECONNECT


def test_reaction_to_http_statuses() -> None:
    """E-022."""
    stopping = [status for status in range(200, 600) if reaction_to_status(status) is Reaction.STOP]
    assert stopping == [400, 401, 403, 404, 405, 426]
    assert reaction_to_status(429) is reaction_to_status(503) is Reaction.RECONNECT

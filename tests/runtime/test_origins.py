from __future__ import annotations

import pytest

from tercet_broker.runtime.origins import OriginRule, check_origin

RULE = OriginRule(frozenset({"https://example.org", "http://localhost:3000"}))


@pytest.mark.parametrize("origin", ["https://example.org", "http://localhost:3000"])
def test_listed_origin_may(origin: str) -> None:
    assert RULE.refusal([origin]) is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org",
        "https://example.org:8443",
        "https://example.org.evil.example",
        "https://evil.example/https://example.org",
        "https://EXAMPLE.org",
        "https://example.org/",
        "https://sub.example.org",
        "null",
        "",
    ],
)
def test_other_origin_may_not(origin: str) -> None:
    """The comparison is exact: no prefix, no suffix, no subdomain."""
    assert RULE.refusal([origin]) is not None


def test_absent_origin_is_a_switch_of_its_own() -> None:
    assert RULE.refusal([]) is None
    assert OriginRule(allow_absent=False).refusal([]) is not None
    assert OriginRule(allow_absent=False).refusal(["https://any.example"]) is None


def test_several_origins_are_refused() -> None:
    assert RULE.refusal(["https://example.org"] * 2) is not None


@pytest.mark.parametrize("text", ["https://example.org", "http://localhost:3000", "http://[::1]:8000", "app://x"])
def test_origin_of_the_configuration(text: str) -> None:
    check_origin(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://Example.org/", "did you mean 'https://example.org'"),
        ("https://example.org:443", "write 'https://example.org'"),
        ("example.org", "as in 'https://example.org'"),
        ("https://*.example.org", "is no origin"),
        ("null", "is no origin"),
    ],
)
def test_what_no_browser_sends_is_no_origin(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint.replace("*", r"\*")):
        check_origin(text)

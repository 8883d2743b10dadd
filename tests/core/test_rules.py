from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core import ANONYMOUS, Action, Identity, Rule, Rules
from tercet_protocol import TopicError, parse_filter, split_topic

ALICE = Identity("alice", frozenset({"traders"}))


def allowed(rules: Rules, identity: Identity, action: Action, topic: str) -> bool:
    grants = rules.grants(identity)
    return grants is None or grants.allows(action, topic, tuple(topic.split("/")))


def covered(rules: Rules, identity: Identity, filter_: str, action: Action = Action.SUBSCRIBE) -> bool:
    grants = rules.grants(identity)
    return grants is None or grants.covers(action, parse_filter(filter_))


def rule(*who: str, allow: tuple[Action, ...] = (Action.SUBSCRIBE,), filters: tuple[str, ...] = ("a/#",)) -> Rule:
    return Rule(who, allow, filters)


def test_without_rules_everything_is_allowed() -> None:
    assert Rules().grants(ANONYMOUS) is None


def test_with_one_rule_everything_else_is_forbidden() -> None:
    """A-010: deny by default."""
    rules = Rules((rule("user:alice"),))
    assert allowed(rules, ALICE, Action.SUBSCRIBE, "a/x")
    assert not allowed(rules, ALICE, Action.SUBSCRIBE, "b")
    assert not allowed(rules, ALICE, Action.PUBLISH, "a/x")
    assert not allowed(rules, Identity("bob"), Action.SUBSCRIBE, "a/x")
    assert not allowed(rules, ANONYMOUS, Action.SUBSCRIBE, "a/x")


@pytest.mark.parametrize(
    ("who", "names"),
    [
        ("*", {"alice", "bob", None}),
        ("authenticated", {"alice", "bob"}),
        ("anonymous", {None}),
        ("user:alice", {"alice"}),
        ("group:traders", {"alice"}),
    ],
)
def test_whom_a_rule_is_for(who: str, names: set[str | None]) -> None:
    everybody = {"alice": ALICE, "bob": Identity("bob"), None: ANONYMOUS}
    rules = Rules((rule(who),))
    assert {name for name, identity in everybody.items() if covered(rules, identity, "a/x")} == names


@pytest.mark.parametrize("name", ["*", "anonymous", "authenticated", "group:traders", "user:alice"])
def test_a_name_is_not_taken_for_a_kind(name: str) -> None:
    """Somebody who calls himself so is nobody else."""
    rules = Rules((rule("anonymous", "group:traders", "user:alice", filters=("secret/#",)), rule("*")))
    assert not covered(rules, Identity(name), "secret/x")
    assert not covered(rules, Identity("mallory", frozenset({name}) - {"traders"}), "secret/x")


def test_rules_add_up_but_one_filter_has_to_cover() -> None:
    rules = Rules((rule("*", filters=("a/x",)), rule("*", filters=("a/+/y",))))
    assert covered(rules, ALICE, "a/x")
    assert covered(rules, ALICE, "a/q/y")
    assert not covered(rules, ALICE, "a/+")


@pytest.mark.parametrize("user", ["#", "+", "a/b", "", "a/#", "\x00", "+/+", "a\nb", "x" * 300, "\ud800"])
def test_user_level_grants_nothing_to_a_name_that_is_no_level(user: str) -> None:
    """A-011: no name can widen a filter."""
    rules = Rules((rule("*", allow=tuple(Action), filters=("inbox/{user}/#", "{user}/#", "{user}")),))
    for place in ("inbox/+", "inbox/+/#", "inbox/#", "inbox/a", "inbox/a/b", "#", "+", "+/#", "+/+", "a/b", "a/#"):
        assert not any(covered(rules, Identity(user), place, action) for action in Action), place


def test_user_level_grants_nothing_to_the_anonymous() -> None:
    assert not covered(Rules((rule("*", filters=("inbox/{user}",)),)), ANONYMOUS, "inbox/+")


def test_user_level_with_a_dollar() -> None:
    """`$x` is a level like any other, but for the first, where it would be the broker's own."""
    rules = Rules((rule("*", filters=("inbox/{user}", "{user}/#")),))
    assert covered(rules, Identity("$x"), "inbox/$x")
    assert not covered(rules, Identity("$x"), "$x/y")
    assert not covered(rules, Identity("$x"), "inbox/+")


@pytest.mark.parametrize("user", ["{user}", "alice", "Ünï", "a b", "*"])
def test_user_level_is_taken_literally(user: str) -> None:
    rules = Rules((rule("*", filters=("inbox/{user}/#",)),))
    assert covered(rules, Identity(user), f"inbox/{user}/+")
    assert not covered(rules, Identity(user), "inbox/other/x")
    assert not covered(rules, Identity(user), "inbox/#")


@given(st.text(max_size=20), st.text("ab/#+$x", min_size=1, max_size=8))
def test_user_level_never_reaches_another_users_topics(user: str, other: str) -> None:
    rules = Rules((rule("*", filters=("inbox/{user}/#",)),))
    topic = f"inbox/{other}"
    try:
        split_topic(topic)
    except TopicError:
        return
    mine = f"inbox/{user}"
    if allowed(rules, Identity(user), Action.SUBSCRIBE, topic):
        assert topic == mine or topic.startswith(f"{mine}/")


def test_what_is_remembered_is_bounded() -> None:
    rules = Rules((rule("*"),))
    for number in range(10_000):
        groups = frozenset({str(number)})
        assert allowed(rules, ALICE, Action.SUBSCRIBE, f"a/{number}")
        assert covered(rules, evolve(ALICE, groups=groups), f"a/{number}/#")
        assert covered(rules, ALICE, f"a/{number}/#")
    (scope,) = (rules.grants(ALICE) or pytest.fail("there are rules")).scopes
    assert len(scope._allowed) <= 4096  # noqa: SLF001 - the bound is what is tested
    assert len(scope._covered) <= 4096  # noqa: SLF001 - likewise
    assert len(rules._scopes) <= 4096  # noqa: SLF001 - likewise


def test_what_rules_come_to_is_shared_by_all_of_the_same_groups() -> None:
    rules = Rules((rule("*", filters=("a/{user}",)), rule("user:bob")))
    alice, carol, bob = (rules.grants(evolve(ALICE, user=name)) for name in ("alice", "carol", "bob"))
    assert alice is not None
    assert carol is not None
    assert bob is not None
    assert alice.scopes == carol.scopes == bob.scopes[:1]
    assert len(bob.scopes) == 2
    assert alice.scopes != (rules.grants(Identity("alice")) or alice).scopes


LEVELS = st.lists(st.sampled_from(["a", "b", "$x", "{user}", "+"]), min_size=1, max_size=3)


@given(
    st.lists(st.tuples(LEVELS, st.booleans()), min_size=1, max_size=3),
    st.sampled_from(["a", "b", "$x", "+", "#", "c", "{user}"]),
    st.lists(st.sampled_from(["a", "b", "$x", "+", "{user}"]), min_size=1, max_size=3),
    st.booleans(),
)
def test_user_level_is_as_if_the_name_were_written_there(
    granted: list[tuple[list[str], bool]], user: str, asked: list[str], is_open: bool
) -> None:
    """A-011: against the rules as one would write them out for this user."""
    texts = ["/".join([*levels, *(["#"] if rest else [])]) for levels, rest in granted]
    filter_ = parse_filter("/".join([*asked, *(["#"] if is_open else [])]))
    written_out = [
        parse_filter(text.replace("{user}", user))
        for text in texts
        if "{user}" not in text or (user not in {"+", "#"} and not (text.startswith("{user}") and user[0] == "$"))
    ]
    rules = Rules((rule("*", filters=tuple(texts)),))
    assert covered(rules, Identity(user), filter_.text) == any(one.contains(filter_) for one in written_out)
    if filter_.is_exact:
        expected = any(one.matches(filter_.text) for one in written_out)
        assert allowed(rules, Identity(user), Action.SUBSCRIBE, filter_.text) == expected


@pytest.mark.parametrize("who", ["alice", "", "user:", "group:", "everyone", "User:alice"])
def test_subject_that_names_nobody(who: str) -> None:
    with pytest.raises(ValueError, match="must be 'user:NAME'"):
        rule(who)


@pytest.mark.parametrize("text", ["inbox/{user}x", "{usr}", "a/#/b", "", "a//b", "x{user}/#"])
def test_filter_that_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the sentences are the grammar's
        rule("*", filters=(text,))


def test_rule_without_anything() -> None:
    for empty in ({"filters": ()}, {"allow": ()}):
        with pytest.raises(ValueError, match="must not be empty"):
            rule("*", **empty)
    with pytest.raises(ValueError, match="must not be empty"):
        rule()

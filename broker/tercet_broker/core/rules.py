"""Who may do what: rules, and what they come to for one identity.

A rule says *who* may do *what* on the topics of *which filters*. Without any
rule everybody may do everything; with the first one, what no rule allows is
forbidden.

`{user}` as a level of a rule's filter stands for the user's name, taken
literally. A name that cannot be one level of a topic (empty, or with `/`,
`+`, `#` or a control character in it), and at the first level one that begins
with `$`, makes such a filter grant nothing; no name can widen it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from tercet_protocol import Filter, TopicError, is_reserved, parse_filter, split_topic

from .identity import Identity

USER_LEVEL = "{user}"
EVERYONE = "*"
_GROUPED = "group:"
_NAMED = "user:"
_KINDS = frozenset({EVERYONE, "anonymous", "authenticated"})
_VERDICTS = 4096  # that are remembered for one set of grants; topics are made up by clients
_SETS = 1024  # of grants that are remembered; so are users, by whoever issues tokens


class Action(enum.StrEnum):
    """What can be allowed."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    HISTORY = "history"
    PRESENCE = "presence"


def check_subject(who: str) -> None:
    """Raise ValueError unless `who` names somebody as a rule does."""
    kind = next((prefix for prefix in (_NAMED, _GROUPED) if who.startswith(prefix)), None)
    if who not in _KINDS and (kind is None or who == kind):
        raise ValueError(
            f"must be 'user:NAME', 'group:NAME', 'authenticated', 'anonymous' or '*' for everyone, not {who!r}"
        )


def check_rule_filter(text: str) -> None:
    """Raise ValueError unless `text` is a filter, in which a level may be `{user}`."""
    filter_ = parse_filter(text)
    for level in filter_.levels:
        if "{" in level and level != USER_LEVEL:
            raise ValueError(f"{USER_LEVEL!r} must stand alone in its level, not as in {text!r}")


def _check_who(_: object, __: object, values: tuple[str, ...]) -> None:
    for who in _not_empty(values):
        check_subject(who)


def _check_filters(_: object, __: object, values: tuple[str, ...]) -> None:
    for text in _not_empty(values):
        check_rule_filter(text)


def _check_allow(_: object, __: object, values: tuple[str, ...]) -> None:
    _not_empty(values)


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("must not be empty")
    return values


@frozen
class Rule:
    """One thing that is allowed.

    Attributes:
        who: `user:NAME`, `group:NAME`, `authenticated`, `anonymous`, or `*` for everyone.
        allow: what they may do; `subscribe` includes the past that a subscription may begin with.
        filters: where; a level may be `{user}`.
    """

    who: tuple[str, ...] = field(validator=_check_who)
    allow: tuple[Action, ...] = field(validator=_check_allow)
    filters: tuple[str, ...] = field(validator=_check_filters)


@define(eq=False)
class Grants:
    """What one identity may do. Shared by all sessions of the same user and groups.

    Attributes:
        filters: {action: where it is allowed}.
    """

    filters: dict[Action, tuple[Filter, ...]]
    _verdicts: dict[tuple[Action, str], bool] = field(factory=dict, repr=False)  # {(action, topic): allowed}

    def covers(self, action: Action, filter_: Filter) -> bool:
        """Tell whether everything that a filter matches lies inside one granted filter."""
        return any(granted.contains(filter_) for granted in self.filters.get(action, ()))

    def allows(self, action: Action, topic: str, levels: tuple[str, ...] | None = None) -> bool:
        """Tell whether the action is allowed on a topic, which may come with its levels. Remembered.

        Raises:
            TopicError: it comes without levels, and is no topic.
        """
        key = (action, topic)
        verdict = self._verdicts.get(key)
        if verdict is None:
            if len(self._verdicts) >= _VERDICTS:
                self._verdicts.clear()
            levels = levels or split_topic(topic)
            verdict = any(granted.matches_levels(levels) for granted in self.filters.get(action, ()))
            self._verdicts[key] = verdict
        return verdict


@define(eq=False)
class Rules:
    """All rules of a broker. They do not change: a reload puts others into their place."""

    rules: tuple[Rule, ...] = ()
    _by_subject: dict[str, list[Rule]] = field(factory=dict, init=False, repr=False)  # {one of its `who`: rules}
    _grants: dict[tuple[str | None, frozenset[str]], Grants] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        """Sort the rules by whom they are for, so that a reload need not look at all of them for each session."""
        for rule in self.rules:
            for who in rule.who:
                self._by_subject.setdefault(who, []).append(rule)

    def grants(self, identity: Identity) -> Grants | None:
        """Return what an identity may do; None for everything, where there are no rules."""
        if not self.rules:
            return None
        key = (identity.user, identity.groups)
        grants = self._grants.get(key)
        if grants is None:
            if len(self._grants) >= _SETS:
                self._grants.clear()
            grants = self._grants[key] = self._compile(identity)
        return grants

    def _compile(self, identity: Identity) -> Grants:
        filters: dict[Action, dict[Filter, None]] = {action: {} for action in Action}
        for subject in _subjects(identity):
            for rule in self._by_subject.get(subject, ()):
                found = dict.fromkeys(_filled_in(rule.filters, identity.user))
                for action in rule.allow:
                    filters[action].update(found)
        return Grants({action: tuple(found) for action, found in filters.items()})


def _subjects(identity: Identity) -> Iterator[str]:
    """Yield whom an identity counts as, in the words of rules."""
    yield EVERYONE
    if identity.user is None:
        yield "anonymous"
    else:
        yield "authenticated"
        yield _NAMED + identity.user
    for group in sorted(identity.groups):
        yield _GROUPED + group


def _filled_in(filters: Iterable[str], user: str | None) -> Iterable[Filter]:
    """Yield the filters of a rule for a user, without those that grant nothing to that one."""
    for text in filters:
        filter_ = parse_filter(text)
        if USER_LEVEL not in filter_.levels:
            yield filter_
        elif user is not None and _is_level(user) and not (filter_.levels[0] == USER_LEVEL and is_reserved(user)):
            levels = (user if level == USER_LEVEL else level for level in filter_.levels)
            try:
                yield parse_filter("/".join(levels))
            except TopicError:
                continue  # longer than any topic that it could match


def _is_level(user: str) -> bool:
    """Tell whether a name can be one level of a topic."""
    try:
        return len(split_topic(user)) == 1
    except TopicError:
        return False

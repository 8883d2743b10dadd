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
from typing import TypeVar

from attrs import define, field, frozen

from tercet_protocol import Filter, parse_filter, split_topic
from tercet_protocol.topics import ONE, REST, SEPARATOR

from .identity import Identity

USER_LEVEL = "{user}"
EVERYONE = "*"
_GROUPED = "group:"
_NAMED = "user:"
_KINDS = frozenset({EVERYONE, "anonymous", "authenticated"})
_REMEMBERED = 4096  # of each kind: topics and filters are made up by clients, groups by whoever issues tokens

Key = TypeVar("Key")
Value = TypeVar("Value")
Names = frozenset[str] | None
"""Names of users; None is everybody."""

UNKNOWN: Names = frozenset({""})  # the object alone counts, and is never an answer


def either(one: Names, other: Names) -> Names:
    """Return who is among one or the other."""
    return None if one is None or other is None else one | other


def both(one: Names, other: Names) -> Names:
    """Return who is among both."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


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
class Scope:
    """What some rules come to. Shared by all whom they are for, so that it is worked out once for them.

    A filter with `{user}` is kept with `+` there. Whom it grants something to is known from what is asked for: who
    is called like the levels that stand in these places.

    Attributes:
        filters: {action: [(where it is allowed, which of its levels are the user's name)]}.
    """

    filters: dict[Action, tuple[tuple[Filter, tuple[int, ...]], ...]]
    _covered: dict[tuple[Action, str], Names] = field(factory=dict, repr=False)  # {(action, filter): who may}
    _allowed: dict[tuple[Action, str], Names] = field(factory=dict, repr=False)  # {(action, topic): who may}

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Scope:
        """Return what these rules come to."""
        filters: dict[Action, dict[tuple[Filter, tuple[int, ...]], None]] = {action: {} for action in Action}
        for rule in rules:
            found = dict.fromkeys(map(_with_places, rule.filters))
            for action in rule.allow:
                filters[action].update(found)
        return cls({action: tuple(found) for action, found in filters.items()})

    def covers(self, action: Action, filter_: Filter) -> Names:
        """Return for whom everything that a filter matches lies inside one granted filter. Remembered."""
        names = self._covered.get((action, filter_.text), UNKNOWN)
        if names is UNKNOWN:
            granted = (places for one, places in self.filters[action] if one.contains(filter_))
            names = _remember(self._covered, (action, filter_.text), _whose(granted, filter_.levels))
        return names

    def allows(self, action: Action, topic: str, levels: tuple[str, ...] | None) -> Names:
        """Return to whom the action is allowed on a topic, which may come with its levels. Remembered.

        Raises:
            TopicError: it comes without levels, and is no topic.
        """
        names = self._allowed.get((action, topic), UNKNOWN)
        if names is UNKNOWN:
            levels = levels or split_topic(topic)
            granted = (places for one, places in self.filters[action] if one.matches_levels(levels))
            names = _remember(self._allowed, (action, topic), _whose(granted, levels))
        return names


@define(eq=False)
class Grants:
    """What one identity may do.

    Attributes:
        user: the name; None is anonymous.
        scopes: of the rules for all of the same groups, and, if there are any, of those for this user by name.
    """

    user: str | None
    scopes: tuple[Scope, ...]

    def covers(self, action: Action, filter_: Filter) -> bool:
        """Tell whether everything that a filter matches lies inside one granted filter."""
        names = self.who_is_covered(action, filter_)
        return names is None or self.user in names

    def who_is_covered(self, action: Action, filter_: Filter) -> Names:
        """Tell of whom this is true, among all to whom the same rules apply."""
        found = self.scopes[0].covers(action, filter_)
        for scope in self.scopes[1:]:
            found = either(found, scope.covers(action, filter_))
        return found

    def allows(self, action: Action, topic: str, levels: tuple[str, ...] | None = None) -> bool:
        """Tell whether the action is allowed on a topic, which may come with its levels.

        Raises:
            TopicError: it comes without levels, and is no topic.
        """
        for scope in self.scopes:
            names = scope.allows(action, topic, levels)
            if names is None or self.user in names:
                return True
        return False

    def who_is_allowed(self, action: Action, topic: str, levels: tuple[str, ...] | None = None) -> Names:
        """Tell of whom this is true, among all to whom the same rules apply; raises likewise."""
        found = self.scopes[0].allows(action, topic, levels)
        for scope in self.scopes[1:]:
            found = either(found, scope.allows(action, topic, levels))
        return found


@define(eq=False)
class Rules:
    """All rules of a broker. They do not change: a reload puts others into their place.

    Attributes:
        names: of users for whom there is a rule by name.
    """

    rules: tuple[Rule, ...] = ()
    names: frozenset[str] = field(factory=frozenset, init=False, repr=False)
    _by_subject: dict[str, list[Rule]] = field(factory=dict, init=False, repr=False)  # {one of its `who`: rules}
    _scopes: dict[tuple[bool, frozenset[str]], Scope] = field(factory=dict, init=False, repr=False)
    _named: dict[str, Scope] = field(factory=dict, init=False, repr=False)  # {user: of the rules for that one}

    def __attrs_post_init__(self) -> None:
        """Sort the rules by whom they are for, so that nobody need look at all of them."""
        for rule in self.rules:
            for who in rule.who:
                self._by_subject.setdefault(who, []).append(rule)
        self._named = {
            who.removeprefix(_NAMED): Scope.of(rules)
            for who, rules in self._by_subject.items()
            if who.startswith(_NAMED)
        }
        self.names = frozenset(self._named)

    def grants(self, identity: Identity) -> Grants | None:
        """Return what an identity may do; None for everything, where there are no rules."""
        if not self.rules:
            return None
        user, key = identity.user, (identity.user is None, identity.groups)
        scope = self._scopes.get(key)
        if scope is None:
            rules = (rule for subject in _subjects(identity) for rule in self._by_subject.get(subject, ()))
            scope = _remember(self._scopes, key, Scope.of(rules))
        named = None if user is None else self._named.get(user)
        return Grants(user, (scope,) if named is None else (scope, named))


def _subjects(identity: Identity) -> Iterator[str]:
    """Yield whom an identity counts as together with others, in the words of rules."""
    yield EVERYONE
    yield "anonymous" if identity.user is None else "authenticated"
    for group in sorted(identity.groups):
        yield _GROUPED + group


def _with_places(text: str) -> tuple[Filter, tuple[int, ...]]:
    """Return a rule's filter with `+` where `{user}` stands, and the places of that."""
    levels = parse_filter(text).levels
    places = tuple(place for place, level in enumerate(levels) if level == USER_LEVEL)
    return parse_filter(SEPARATOR.join(ONE if level == USER_LEVEL else level for level in levels)), places


def _whose(granted: Iterable[tuple[int, ...]], levels: tuple[str, ...]) -> Names:
    """Return who has to be called like the levels in one of these sets of places; everybody, where one is empty."""
    found = set()
    for places in granted:
        if not places:
            return None
        names = {levels[place] for place in places}
        if len(names) == 1:
            found |= names - {ONE, REST}  # in a filter these are no name, though somebody may be called so
    return frozenset(found)


def _remember(memory: dict[Key, Value], key: Key, value: Value) -> Value:
    """Keep something that was worked out, and return it."""
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value
    return value

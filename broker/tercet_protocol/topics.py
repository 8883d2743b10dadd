"""The grammar of topics and filters, and the one rule that matches them (protocol.md, section 2).

A *topic* names what a message is about; a *filter* is a pattern over topics.
Both are levels split by `/`. The first level of a topic is its *namespace*.
"""

from __future__ import annotations

import functools
import unicodedata

from attrs import field, frozen

MAX_LEVELS = 16
MAX_BYTES = 255
SEPARATOR = "/"
ONE = "+"  # exactly one level
REST = "#"  # the parent level and everything below; only as the last level
RESERVED = "$"  # a first level that begins so is the broker's own


class TopicError(ValueError):
    """A topic or a filter breaks the grammar; the text says how, in one sentence."""


class InvalidTopicError(TopicError):
    """The text is no topic."""


class InvalidFilterError(TopicError):
    """The text is no filter."""


def _split(text: str, what: str, error: type[TopicError]) -> tuple[str, ...]:
    """Apply the rules that topics and filters share."""
    if not text:
        raise error(f"a {what} must not be empty")
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise error(f"a {what} may have {MAX_BYTES} bytes of UTF-8 at most")
    for character in text:
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise error(f"a {what} must not contain control characters, {text!a} does")
    levels = tuple(text.split(SEPARATOR))
    if len(levels) > MAX_LEVELS:
        raise error(f"a {what} may have {MAX_LEVELS} levels at most, {text!r} has {len(levels)}")
    if "" in levels:
        raise error(f"a {what} must not have an empty level, {text!r} does")
    return levels


def split_topic(topic: str) -> tuple[str, ...]:
    """Return the levels of `topic`; the first one is its namespace.

    Raises:
        InvalidTopicError: it is not 1 to 16 non-empty levels, is longer than
            255 bytes of UTF-8, or contains `+`, `#` or a control character.
    """
    levels = _split(topic, "topic", InvalidTopicError)
    if ONE in topic or REST in topic:
        raise InvalidTopicError(f"a topic must not contain '+' or '#', {topic!r} does (that is a filter)")
    return levels


def is_reserved(name: str) -> bool:
    """Tell whether a first level, or a topic, is the broker's own."""
    return name.startswith(RESERVED)


@frozen
class Filter:
    """A parsed filter. Make one with `parse_filter`; equal texts are equal filters."""

    text: str
    levels: tuple[str, ...] = field(eq=False, repr=False)

    @property
    def namespace(self) -> str | None:
        """The one namespace that it lies in, or None if it spans namespaces."""
        first = self.levels[0]
        return None if first in {ONE, REST} else first

    @property
    def is_exact(self) -> bool:
        """Whether it has no wildcard, and so matches just the topic of the same text."""
        return ONE not in self.levels and self.levels[-1] != REST

    def matches(self, topic: str) -> bool:
        """Tell whether the filter matches a (valid) topic."""
        if self.is_exact:
            return topic == self.text
        return self.matches_levels(tuple(topic.split(SEPARATOR)))

    def matches_levels(self, levels: tuple[str, ...]) -> bool:
        """Tell the same for a topic that is already split."""
        mine = self.levels
        if mine[0] in {ONE, REST} and is_reserved(levels[0]):
            return False
        if mine[-1] == REST:
            # "#" stands for its parent as well: a/# matches a, a/b and a/b/c.
            prefix = mine[:-1]
            if len(levels) < len(prefix):
                return False
        else:
            prefix = mine
            if len(levels) != len(prefix):
                return False
        for want, have in zip(prefix, levels, strict=False):  # noqa: SIM110 - a generator would double what it costs
            if want not in (have, ONE):
                return False
        return True

    def contains(self, other: Filter) -> bool:
        """Tell whether this filter matches every topic that `other` matches.

        It is exact but for the bounds of the grammar: that no topic is longer
        than 255 bytes is not taken into account, so that the answer may be no
        where only topics too long to exist would make the difference.
        """
        if self.levels[0] in {ONE, REST} and is_reserved(other.levels[0]):
            return False
        mine, is_open = _prefix(self.levels)
        theirs, is_theirs_open = _prefix(other.levels)
        if not (len(mine) <= len(theirs) if is_open else len(mine) == len(theirs) and not is_theirs_open):
            return False
        return all(have in (ONE, want) for have, want in zip(mine, theirs, strict=False))

    def __str__(self) -> str:
        return self.text


def _prefix(levels: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Return the levels before `#`, and whether there is one. `#` alone is `+/#`: a topic has a first level."""
    if levels[-1] != REST:
        return levels, False
    return levels[:-1] or (ONE,), True


@functools.lru_cache(maxsize=4096)
def parse_filter(text: str) -> Filter:
    """Return `text` as a filter.

    Raises:
        InvalidFilterError: it breaks the rules of a topic other than those on
            `+` and `#`, or has one of these as part of a level, or `#`
            anywhere but as the last level.
    """
    levels = _split(text, "filter", InvalidFilterError)
    for place, level in enumerate(levels, 1):
        if level == REST:
            if place != len(levels):
                raise InvalidFilterError(f"'#' may only be the last level of a filter, not as in {text!r}")
        elif level != ONE and (ONE in level or REST in level):
            raise InvalidFilterError(f"'+' and '#' must stand alone in their level, not as in {text!r}")
    return Filter(text, levels)

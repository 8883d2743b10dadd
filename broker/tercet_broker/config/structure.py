"""From what TOML holds to attrs classes, strictly, and every problem found on the way.

cattrs walks and collects; the hooks here add what it does not do: no value is
converted to another type ("8080" is not 8080, true is not 1), an attrs
validator's error belongs to its attribute, and errors are sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from ..core.rules import Action
from ..core.settings import HistorySettings, Overflow
from ..runtime.settings import TlsSettings
from .problems import Problem, did_you_mean, quote, quote_key

T = TypeVar("T")

Check = Callable[[Any], object]
"""Raises ValueError if a value of the right type is wrong nevertheless."""

# What TOML calls an integer has 64 bits; Python's parser takes any number of digits.
_MAX_INTEGER = 2**63 - 1

_TABLES = {
    HistorySettings: "{ messages = 10_000 }",
    TlsSettings: '{ certificate = "cert.pem", key = "key.pem" }',
}

_COMPARISON = re.compile(r"'\w+' must be (?P<how>[<>]=?) (?P<bound>\S+): (?P<value>\S+)")
_COMPARISONS = {"<": "less than", "<=": "at most", ">": "greater than", ">=": "at least"}


class InvalidValueError(ValueError):
    """A value that cannot be taken: a sentence, and perhaps what was meant."""

    def __init__(self, message: str, suggestion: str | None = None) -> None:
        super().__init__(message)
        self.suggestion = suggestion


class Structurer:
    """Builds settings out of TOML's values; relative paths start at `folder`.

    Args:
        folder: the folder of the configuration file.
        checks: {(class, attribute): what else its value must pass}.
        item_checks: {(class, attribute): what each item of its list must pass}.
    """

    def __init__(
        self,
        folder: Path,
        checks: Mapping[tuple[type, str], Check],
        item_checks: Mapping[tuple[type, str], Check],
    ) -> None:
        self._folder = folder
        self._checks = checks
        self._item_checks = item_checks
        self._converter = Converter(forbid_extra_keys=True, detailed_validation=True)
        hook = self._converter.register_structure_hook
        hook(bool, _structure_bool)
        hook(int, _structure_int)
        hook(float, _structure_float)
        hook(str, _structure_str)
        hook(Path, self._structure_path)
        hook(Action, _structure_action)
        hook(Overflow, _structure_overflow)
        self._converter.register_structure_hook_func(
            lambda cls: getattr(cls, "__origin__", None) is tuple, self._structure_tuple
        )
        self._converter.register_structure_hook_func(
            lambda cls: cls == tuple[str, ...] | None, lambda value, _: self._structure_tuple(value, tuple[str, ...])
        )
        self._converter.register_structure_hook_func(
            lambda cls: getattr(cls, "__origin__", None) is Literal, _structure_choice
        )
        self._converter.register_structure_hook_factory(attrs.has, self._make_class_hook)

    def structure(self, value: object, cls: type[T], path: str) -> tuple[T | None, list[Problem]]:
        """Return a `cls` made of `value`, or None and what is wrong with it, which stands at `path`."""
        try:
            return self._converter.structure(value, cls), []
        except (BaseValidationError, InvalidValueError) as error:
            return None, list(_problems(error, path))

    def _structure_path(self, value: object, _: object) -> Path:
        text = _structure_str(value, str)
        if not text or "\0" in text:
            raise InvalidValueError("must be the name of a file")
        return self._folder / text

    def _structure_tuple(self, value: object, cls: Any) -> tuple[object, ...]:
        """Structure a list; never a text, which Python would take for a list of characters."""
        of = get_args(cls)[0]
        if not isinstance(value, list):
            meant = "with two brackets: [[…]]" if attrs.has(of) else "in brackets: […]"
            raise InvalidValueError(f"must be a list, not {_describe(value)}", meant)
        return tuple(self._converter.structure(value, list[of]))  # type: ignore[valid-type]  # known at run time

    def _make_class_hook(self, cls: type) -> Callable[[Any, Any], Any]:
        attrs.resolve_types(cls)
        overrides = {
            attribute.name: override(struct_hook=self._make_attribute_hook(cls, attribute))
            for attribute in attrs.fields(cls)
        }
        structure: Callable[[Any, Any], Any] = make_dict_structure_fn(
            cls,
            self._converter,
            _cattrs_forbid_extra_keys=True,
            _cattrs_detailed_validation=True,
            **overrides,  # type: ignore[arg-type]
        )

        def structure_class(value: object, cls_: type) -> object:
            if not isinstance(value, dict):
                example = f"as in {_TABLES[cls]}" if cls in _TABLES else None
                raise InvalidValueError(f"must be a table, not {_describe(value)}", example)
            return structure(value, cls_)

        return structure_class

    def _make_attribute_hook(self, cls: type, attribute: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
        """Structure one attribute and validate it at once.

        Left to attrs, a validator would run only when all attributes have the
        right type, the first error would hide the rest, and it would have no path.
        """
        check = self._checks.get((cls, attribute.name))
        item_check = self._item_checks.get((cls, attribute.name))

        def structure_attribute(value: object, _: object) -> object:
            structured: object = self._converter.structure(value, attribute.type)  # type: ignore[arg-type]
            if item_check is not None and isinstance(structured, tuple):
                _check_items(structured, item_check, attribute.name)
            try:
                if attribute.validator is not None:
                    attribute.validator(None, attribute, structured)
                if check is not None:
                    check(structured)
            except InvalidValueError:
                raise
            except ValueError as error:
                raise InvalidValueError(_reword(str(error))) from error
            return structured

        return structure_attribute


def _check_items(items: tuple[object, ...], check: Check, name: str) -> None:
    """Check each item, and say of each that is wrong which it is, as cattrs does where one has the wrong type."""
    errors: list[Exception] = []
    for index, item in enumerate(items):
        try:
            check(item)
        except ValueError as error:
            found = error if isinstance(error, InvalidValueError) else InvalidValueError(str(error))
            found.add_note(IterableValidationNote(f"{name}[{index}]", index, type(item)))
            errors.append(found)
    if errors:
        raise IterableValidationError(f"in {name}", errors, tuple)


def _reword(error: str) -> str:
    """Turn what attrs' comparing validators say into a sentence without the name, which the path tells."""
    found = _COMPARISON.fullmatch(error)
    if found is None:
        return error
    return f"must be {_COMPARISONS[found['how']]} {found['bound']}, not {found['value']}"


def _structure_bool(value: object, _: object) -> bool:
    if isinstance(value, bool):
        return value
    meant = None
    if value in ("true", "false"):
        meant = f"without quotes: {value}"
    elif value in (0, 1):
        meant = f"did you mean {'true' if value else 'false'}?"
    raise InvalidValueError(f"must be true or false, not {_describe(value)}", meant)


def _structure_int(value: object, _: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
            raise InvalidValueError("is too large a number")
        return value
    meant = None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        meant = f"without quotes: {value}"
    elif isinstance(value, float) and value.is_integer():
        meant = f"did you mean {int(value)}?"
    raise InvalidValueError(f"must be a whole number, not {_describe(value)}", meant)


def _structure_float(value: object, _: object) -> float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(f"must be a finite number, not {value}")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return float(_structure_int(value, int))
    meant = None
    if isinstance(value, str) and value.isascii() and value.replace(".", "", 1).isdigit():
        meant = f"without quotes: {value}"
    raise InvalidValueError(f"must be a number, not {_describe(value)}", meant)


def _structure_str(value: object, _: object) -> str:
    if isinstance(value, str):
        return value
    meant = f"in quotes: {quote(str(value))}" if type(value) in (int, float) else None
    raise InvalidValueError(f"must be a text, not {_describe(value)}", meant)


def _structure_action(value: object, _: object) -> Action:
    return Action(str(_structure_choice(value, Literal[tuple(str(action) for action in Action)])))


def _structure_overflow(value: object, _: object) -> Overflow:
    return Overflow(str(_structure_choice(value, Literal[tuple(str(policy) for policy in Overflow)])))


def _structure_choice(value: object, cls: Any) -> object:
    known = get_args(cls)
    if value in known:
        return value
    meant = did_you_mean(value, known) if isinstance(value, str) else None
    raise InvalidValueError(f"must be one of {', '.join(known)}, not {_describe(value)}", meant)


def _describe(value: object) -> str:
    """Name a value of TOML, briefly."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = quote(value)
            return f"the text {text if len(text) <= 60 else text[:60] + '…'}"  # noqa: PLR2004 - what fits a line
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"the {type(value).__name__} {value}"


def _problems(error: BaseException, path: str) -> Iterator[Problem]:
    match error:
        case BaseValidationError():
            for each in error.exceptions:
                yield from _problems(each, _extend(path, each))
        case ForbiddenExtraKeysError():
            known = [attribute.name for attribute in attrs.fields(error.cl)]
            for key in sorted(error.extra_fields):
                yield Problem(join(path, key), "unknown option", did_you_mean(key, known))
        case KeyError():
            yield Problem(path, "is missing")
        case InvalidValueError():
            yield Problem(path, str(error), error.suggestion)
        case ValueError():  # what a class says about two of its attributes
            yield Problem(path, str(error))
        case _:
            raise error


def _extend(path: str, error: BaseException) -> str:
    """Add the step that cattrs noted on the way up."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return join(path, note.name)
        if isinstance(note, IterableValidationNote):
            return f"{path}[{note.index}]" if isinstance(note.index, int) else join(path, note.index)
    return path


def join(path: str, key: str) -> str:
    """Return the path of what `key` names inside `path`."""
    return f"{path}.{quote_key(key)}" if path else quote_key(key)

"""docs/reference/configuration.md names every option, with its true default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import attrs
import pytest

from tercet_broker.config.loading import SECTIONS
from tercet_broker.core.settings import HistorySettings
from tercet_broker.runtime.settings import JwtSettings, TlsSettings, TokenSettings

PAGE = Path(__file__).parents[2] / "docs/reference/configuration.md"

HEADINGS = {
    "## `[[listener]]`": SECTIONS["listener"],
    "### `tls`": TlsSettings,
    "## `[namespace.NAME]`": SECTIONS["namespace"],
    "### `history`": HistorySettings,
    "## `[default]`": SECTIONS["default"],
    "## `[limits]`": SECTIONS["limits"],
    "## `[connections]`": SECTIONS["connections"],
    "## `[rates]`": SECTIONS["rates"],
    "## `[timeouts]`": SECTIONS["timeouts"],
    "## `[auth]`": SECTIONS["auth"],
    "### `[[auth.token]]`": TokenSettings,
    "### `[[auth.jwt]]`": JwtSettings,
    "## `[[rule]]`": SECTIONS["rule"],
    "## `[logging]`": SECTIONS["logging"],
}

ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<default>[^|]+) \| (?P<unit>[^|]*)\| (?P<reason>[^|]+) \|$", re.MULTILINE)


def sections() -> dict[str, str]:
    """Return {heading: the text below it}."""
    parts = re.split(r"^(##+ .*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_page_has_a_section_for_each_class_and_no_other() -> None:
    assert set(sections()) == set(HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_options_and_defaults(heading: str) -> None:
    rows = {found["name"]: found for found in ROW.finditer(sections()[heading])}
    fields = attrs.fields_dict(HEADINGS[heading])
    assert set(rows) == set(fields)
    for name, attribute in fields.items():
        stated = rows[name]["default"]
        if attribute.default is attrs.NOTHING:
            assert stated == "required", name
        elif attribute.default is None:
            assert stated == "none", name
        else:
            default = list(attribute.default) if isinstance(attribute.default, tuple) else attribute.default
            value = tomllib.loads(f"value = {stated.strip('`')}")["value"]
            assert (type(value), value) == (type(default), default), name
        assert len(rows[name]["reason"]) > 10, name


@pytest.mark.parametrize("heading", HEADINGS)
def test_numbers_have_a_unit(heading: str) -> None:
    for found in ROW.finditer(sections()[heading]):
        if re.fullmatch(r"`[\d_.]+`", found["default"]):
            assert found["unit"].strip(), found["name"]

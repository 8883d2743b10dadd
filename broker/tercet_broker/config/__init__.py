"""The configuration file: TOML in, settings out, and every mistake in it at once.

The options and their defaults are in docs/reference/configuration.md.
"""

from __future__ import annotations

from .loading import Config, load, parse
from .problems import ConfigError, Problem
from .rendering import render
from .warnings import key_warnings, warnings

__all__ = ["Config", "ConfigError", "Problem", "key_warnings", "load", "parse", "render", "warnings"]

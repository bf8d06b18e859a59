"""Overrides of a model's settings, as a publish gives them (Sax protocol §5.3)."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.devcell.language_model import Settings

_log = logging.getLogger("saxgw.devcell")


def apply(overrides: Mapping[str, str], settings_class: type[Settings]) -> Settings:
    """Returns settings in which the overrides replace the defaults.

    A name that is not a setting and a value that is not JSON are ignored with a warning, as Sax does.

    Args:
        overrides: JSON texts by the names of settings.
        settings_class: The settings, with their defaults.

    Raises:
        ValueError: A value is not of its default's type, or is out of range.
    """
    defaults = {field.name: field.default for field in fields(settings_class)}
    values: dict[str, Any] = {}
    for name, text in overrides.items():
        if name not in defaults:
            _log.warning("override of %s is ignored: %s has no such setting", name, settings_class.__name__)
            continue
        try:
            value = json.loads(text)
        except ValueError:
            _log.warning("override of %s is ignored: its value is not JSON", name)
            continue
        expected = type(defaults[name])
        if type(value) is not expected:
            raise ValueError(f"override of {name} must be of type {expected.__name__}, got {text}")
        values[name] = value
    return settings_class(**values)

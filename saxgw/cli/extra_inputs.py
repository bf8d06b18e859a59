"""Extra inputs on the command line: `--extra-input NAME=VALUE`, and saxutil's `--extra NAME:VALUE,…`.

A value is a number, a text or, in `--extra-input`, a list of numbers: what can be read as a number is one, "…" is a
text with JSON's escapes, […] is a list, and all else is a text as it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from saxgw.cli.command import utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ExtraInput = float | str | list[float]

_ITEM: Final = re.compile(r'(?P<name>[^:,"]+):(?P<value>"(?:[^"\\]|\\.)*"|[^,"]*)(?:,|\Z)', re.DOTALL)

_NUMBER: Final = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)


def parse_list(text: str) -> list[tuple[str, ExtraInput]]:
    """Reads `NAME:VALUE,…`; raises ValueError."""
    items: list[tuple[str, ExtraInput]] = []
    at = 0
    while at < len(text):
        match = _ITEM.match(text, at)
        if not match:
            raise ValueError(f'"{text[at:]}" is not an extra input; write NAME:VALUE, such as temperature:0.5')
        items.append((match["name"], parse_value(match["value"])))
        at = match.end()
    return items


def parse_item(text: str) -> tuple[str, ExtraInput]:
    """Reads `NAME=VALUE`; raises ValueError."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f'"{text}" is not an extra input; write NAME=VALUE, such as temperature=0.5')
    if value.startswith("["):
        return name, _parse_numbers(value)
    return name, parse_value(value)


def parse_value(text: str) -> float | str:
    """Reads a number or a text; raises ValueError if a quoted text is none."""
    if _NUMBER.fullmatch(text):
        return float(text)
    if not text.startswith('"'):
        return text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, str):
        raise ValueError(f"{text} is not a quoted text")  # noqa: TRY004 - the text is at fault, not a type
    return value


def _parse_numbers(text: str) -> list[float]:
    try:
        values = orjson.loads(text)
        return [_number(value) for value in values]
    except ValueError:
        raise ValueError(f"{text} is not a list of numbers; write [0.5,1]") from None


def _number(value: Any) -> float:  # noqa: ANN401 - whatever JSON has
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)  # noqa: TRY004 - as any other list that is none of numbers
    return float(value)


def _read(text: str, parse: Callable[[str], Any]) -> Any:  # noqa: ANN401 - what `parse` returns
    try:
        return parse(utf8(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _merge(context: click.Context, items: Iterable[tuple[str, ExtraInput]]) -> None:
    """Adds items to the command's `extra_inputs`, which two options share."""
    extra_inputs: dict[str, ExtraInput] = context.params.setdefault("extra_inputs", {})
    for name, value in items:
        if name in extra_inputs:
            raise click.BadParameter(f"{name} is given twice")
        extra_inputs[name] = value


def _list_given(context: click.Context, _: click.Parameter, values: tuple[str, ...]) -> None:
    for text in values:
        _merge(context, _read(text, parse_list))
    _merge(context, ())


def _items_given(context: click.Context, _: click.Parameter, values: tuple[str, ...]) -> None:
    _merge(context, [_read(text, parse_item) for text in values])


def extra_inputs(command: Any) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
    """Options for extra inputs; the command gets them as `extra_inputs`."""
    command = click.option(
        "--extra",
        multiple=True,
        expose_value=False,
        callback=_list_given,
        metavar="NAME:VALUE,...",
        help="Several extra inputs at once, as saxutil takes them.",
    )(command)
    return click.option(
        "-e",
        "--extra-input",
        multiple=True,
        expose_value=False,
        callback=_items_given,
        metavar="NAME=VALUE",
        help="A value that overrides a default of the model, such as temperature=0.5: a number, a text or a list of "
        "numbers. May be given several times.",
    )(command)

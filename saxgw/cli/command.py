"""What commands have of their own beside click: flags spelled as saxutil's, what arguments may be, how they fail."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAG: Final = re.compile(r"--?(?P<name>[a-zA-Z][\w-]*)(?P<value>=.*)?", re.DOTALL)


_LONGEST_S: Final = 365 * 24 * 3600.0


class Failed(click.ClickException):
    """A command has failed; its message is one sentence for people."""

    def show(self, file: Any = None) -> None:  # noqa: ANN401 - as click has it
        click.echo(f"saxgw: {' '.join(self.message.split())}", file=file, err=True)


class Command(click.Command):
    """A command whose flags may also be spelled as saxutil's are: `-terse`, `-n=2`, `--sax_root=DIR`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._respelled(args)))

    def _respelled(self, args: list[str]) -> Iterator[str]:
        spellings = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        rest = iter(args)
        for arg in rest:
            if match := _FLAG.fullmatch(arg):
                name, value = match["name"].replace("_", "-"), match["value"] or ""
                if f"--{name}" in spellings:
                    yield f"--{name}{value}"
                    continue
                if f"-{name}" in spellings and value:
                    yield from (f"-{name}", value[1:])
                    continue
            yield arg
            if arg == "--":
                yield from rest


def read_seconds(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Takes a time that is above 0 and not endless."""
    if value is not None and not 0 < value <= _LONGEST_S:  # NaN compares false
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0 and up to {_LONGEST_S:g}")
    return value


def read_text(context: click.Context, _: click.Parameter, value: str) -> str:
    """Takes a text for a model; `-` reads it from standard input, where one line break at the end does not count."""
    if value != "-" or context.resilient_parsing:  # that is, while a shell completes words
        return utf8(value)
    if sys.stdin is None:
        raise click.BadParameter("there is no standard input to read the text from")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.BadParameter("what standard input has is not UTF-8") from None


def read_texts(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Takes texts as they stand."""
    return tuple(map(utf8, values))


def read_overrides(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Takes settings of a model's class as saxutil does, KEY=JSON."""
    settings: dict[str, str] = {}
    for value in map(utf8, values):
        key, equals, json = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f'"{value}" is not a setting; write KEY=JSON, such as BATCH_SIZE=1')
        if key in settings:
            raise click.BadParameter(f"{key} is given twice")
        try:
            orjson.loads(json)
        except orjson.JSONDecodeError:
            hint = f"a text has quotes, such as '{key}=\"a\"'"
            raise click.BadParameter(f'what follows {key} in "{value}" is not JSON; {hint}') from None
        settings[key] = json
    return settings


def utf8(text: str) -> str:
    """Returns an argument; raises BadParameter if its bytes were no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("an argument is not UTF-8") from None
    return text

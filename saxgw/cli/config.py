"""The configuration file: read it (`--config`), and print one that says where each value comes from (`--print-config`).

The file is TOML. Its keys are the names of options with underscores, as fields of Settings have them: `http_port = 80`.
Flags come before environment variables, these before the file, and the file before defaults.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from saxgw import __version__
from saxgw.settings import Settings, environment_variable, may_be_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(Settings))

_OWN: Final = frozenset({"config", "print_config", "help"})
"""Options that are not about what is run."""

_TOML_TYPES: Final = {
    str: "a string",
    int: "an integer",
    float: "a float",
    bool: "a boolean",
    list: "an array",
    dict: "a table",
}

_NO_COMMENT: Final = re.compile("[\x00-\x1f\x7f]")
"""What may not stand in TOML as it is, be it in a comment."""


def configurable(command: Any) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
    """Gives a command that runs something `--config FILE` and `--print-config`, whose value it gets."""
    file = click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=environment_variable("config"),
        show_envvar=True,
        is_eager=True,  # so that other options find their values
        expose_value=False,
        callback=_load,
        metavar="FILE",
        help="Read settings from this TOML file; flags and environment variables come first.",
    )
    print_config = click.option(
        "--print-config",
        is_flag=True,
        help="Print all settings as such a file, with where each comes from, and exit.",
    )
    return file(print_config(command))


def print_values() -> None:
    """Prints the values of the running command's options as TOML that `--config` reads, each with where it comes from.

    What may be secret, and what has no value, stands there as a comment.
    """
    context = click.get_current_context()
    click.echo(f"# saxgw {__version__}, {context.info_name}")
    for parameter in _parameters(context.command):
        click.echo(_line(context, parameter))


def _load(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Makes the file the source of whatever is given neither as a flag nor by the environment."""
    if path is None or context.resilient_parsing:  # that is, while a shell completes words
        return
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{path} is not UTF-8 (at byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise click.BadParameter(f"{path} is not TOML: {error}") from error
    parameters = {parameter.name: parameter for parameter in _parameters(context.command)}
    for name, value in values.items():
        if name in parameters:
            _check_type(path, parameters[name], value)
        elif name not in _FIELDS:  # of these some are decided by the command, whatever else the file is for
            near = get_close_matches(name, [*parameters, *_FIELDS], n=1)
            hint = f"did you mean {near[0]}?" if near else f"saxgw {context.info_name} --print-config shows all"
            raise click.BadParameter(f"{path}: there is no setting {name}; {hint}")
    context.default_map = values
    context.meta[__name__] = path


def _parameters(command: click.Command) -> Iterator[click.Parameter]:
    return (parameter for parameter in command.params if parameter.name not in _OWN)


def _check_type(path: Path, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401 - of any of TOML's types
    """Refuses what click would convert, such as the string "80" for a number. Values, maybe secret, are not shown."""
    allowed: tuple[type, ...]
    match parameter.type:
        case click.types.BoolParamType():
            expected, allowed = "a boolean", (bool,)
        case click.types.IntParamType():
            expected, allowed = "an integer", (int,)
        case click.types.FloatParamType():
            expected, allowed = "a number", (int, float)
        case _:
            expected, allowed = "a string", (str,)
    if parameter.multiple:
        wrong = type(value) is not list or any(type(item) not in allowed for item in value)
        expected = f"an array whose items are each {expected}"
    else:
        wrong = type(value) not in allowed  # a boolean is an int to isinstance()
    if wrong:
        got = _TOML_TYPES.get(type(value), "a date or time")
        if parameter.multiple and type(value) is list:
            got = "one with others"
        raise click.BadParameter(f"{path}: {parameter.name} must be {expected}, not {got}")


def _line(context: click.Context, parameter: click.Parameter) -> str:
    assert parameter.name is not None  # noqa: S101 - for the type checker: options have names
    value = context.params[parameter.name]
    origin = _origin(context, parameter)
    if value is None:
        return f"# {parameter.name} is not set"
    if may_be_secret(value):
        return f"# {parameter.name} is hidden  # {origin}"
    return f"{parameter.name} = {to_toml(value)}  # {origin}"


def _origin(context: click.Context, parameter: click.Parameter) -> str:
    assert parameter.name is not None  # noqa: S101 - as above
    match context.get_parameter_source(parameter.name):
        case ParameterSource.COMMANDLINE:
            return f"flag {parameter.opts[0]}"
        case ParameterSource.ENVIRONMENT:
            variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
            return f"environment variable {next(name for name in variables if os.environ.get(name))}"
        case ParameterSource.DEFAULT_MAP:
            return _NO_COMMENT.sub("?", f"file {click.format_filename(context.meta[__name__])}")
    return "default"


def to_toml(value: Any) -> str:  # noqa: ANN401 - of any type that a setting has
    """A value of a setting in TOML's syntax."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(to_toml, value))}]"
    # A string of JSON is one of TOML, but for this character. What was no UTF-8 in the environment cannot be told.
    quoted = json.dumps(str(value).encode(errors="replace").decode(), ensure_ascii=False)
    return quoted.replace("\x7f", "\\u007f")

"""The commands that run a gateway, and what they can be told: options made from Settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from saxgw.cli.config import configurable, print_values
from saxgw.cli.standard_streams import open_standard_streams, say
from saxgw.cli.workers import supervise, usable_cpus
from saxgw.settings import InvalidSetting, Settings, environment_variable, flag

if TYPE_CHECKING:
    from collections.abc import Callable

_DEV_HOST: Final = "127.0.0.1"

_NOT_YET: Final = "(not known yet)"

_NO_SAX_ROOT: Final = (
    "SAX_ROOT is not set: name the directory or URL where the cell is registered, in SAX_ROOT or with --sax-root.\n"
    "To try saxgw without a cell, run: saxgw dev"
)


def _settings_options(*omitted: str) -> Callable[[Any], Any]:
    """Options for the fields of Settings, so that flags, environment variables and settings cannot part."""

    def decorate(command: Any) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
        for field in reversed(dataclasses.fields(Settings)):
            if field.name not in omitted:
                command = _option(field)(command)
        return command

    return decorate


def _option(field: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    variables = [environment_variable(field.name), *filter(None, [field.metadata["known_as"]])]
    default = None if field.default is dataclasses.MISSING else field.default
    spelling = flag(field.name)
    return click.option(
        # A switch that is on in the configuration file can be turned off.
        f"{spelling}/--no-{spelling[2:]}" if isinstance(default, bool) else spelling,
        field.name,
        default=default,
        type=_value_type(field),
        is_flag=isinstance(default, bool),
        multiple=isinstance(default, tuple),
        envvar=variables,
        show_envvar=True,
        show_default=default not in (None, "", ()),
        help=field.metadata["help"],
    )


class _Item(click.types.StringParamType):
    """One of several texts, which an environment variable has with spaces or commas between them."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return rv.replace(",", " ").split()


def _value_type(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401 - what click takes for a type is of many
    kind = field.metadata["kind"]
    return _Item() if kind is tuple else kind


@click.command()
@_settings_options()
@configurable
def serve(*, print_config: bool, **values: Any) -> None:  # noqa: ANN401 - one for each setting
    """Serve the cells under SAX_ROOT."""
    if print_config:
        print_values()
        _settings({**values, "sax_root": values["sax_root"] or _NOT_YET})
        return
    if values["sax_root"] is None:
        raise click.UsageError(_NO_SAX_ROOT)
    open_standard_streams()
    settings = _settings(values)
    if "://" not in settings.sax_root and not Path(settings.sax_root).is_dir():
        say(f"there is no directory {settings.sax_root} yet; until there is, no cell is found")
    if (workers := settings.workers or usable_cpus()) > 1:
        supervise(settings, workers)
        return
    from saxgw.cli import serving  # noqa: PLC0415 - imports servers, which take half a second

    serving.run(serving.serve(settings), settings)


@click.command()
@_settings_options("sax_root", "host", "admin_host", "workers")
@click.option(
    "--root",
    type=click.Path(file_okay=False),
    envvar="SAXGW_ROOT",
    show_envvar=True,
    help="Keep the cell in this directory between runs.  [default: a temporary one]",
)
@click.option(
    "--model-servers",
    envvar="SAXGW_MODEL_SERVERS",
    show_envvar=True,
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many model servers to start.",
)
@click.option(
    "--google/--no-google",
    envvar="SAXGW_GOOGLE",
    show_envvar=True,
    help="Have the cell behave as Google's does: models are loaded within 10 s, each on servers of its own.",
)
@configurable
def dev(
    *,
    root: str | None,
    model_servers: int,
    google: bool,
    print_config: bool,
    **values: Any,  # noqa: ANN401 - one for each setting
) -> None:
    """Start a small cell on this machine and serve it, on loopback only.

    The cell is /sax/test, its admin and model servers are real, its language model is small.
    """
    if root == "":
        raise click.UsageError("--root is empty; name a directory, or leave it out for a temporary one")
    if print_config:
        print_values()
    # The root is known once the cell runs; all other settings are checked before that.
    settings = _settings({**values, "host": _DEV_HOST, "sax_root": str(root or _NOT_YET)})
    if print_config:
        return
    open_standard_streams()
    from saxgw.cli import serving  # noqa: PLC0415 - imports servers, which take half a second

    serving.run(serving.dev(settings, root, model_servers, google=google), settings)


@click.command("openapi")
def print_openapi() -> None:
    """Print the OpenAPI document of the HTTP door, which a running gateway serves at /openapi.json."""
    from saxgw.gateway import openapi  # noqa: PLC0415 - imports servers, which take half a second

    click.echo(orjson.dumps(openapi(), option=orjson.OPT_INDENT_2))


def _settings(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except InvalidSetting as error:
        raise click.UsageError(str(error)) from error

"""`saxgw keys`: a file of API keys, which running gateways follow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from saxgw.cli.command import Command, Failed
from saxgw.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from saxgw.access.key_file import KeyFile

_LIFETIME: Final = re.compile(r"(\d{1,6})([smhdw])")

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def _read_lifetime(_: click.Context, __: click.Parameter, value: str | None) -> float:
    if value is None:
        return float("inf")
    if match := _LIFETIME.fullmatch(value):
        return float(int(match[1]) * _UNITS_S[match[2]])
    raise click.BadParameter(f'"{value}" is not a time; write a number and one of s, m, h, d, w, such as 90d')


def _file(command: Callable[..., None]) -> Any:  # noqa: ANN401 - click decorates functions and commands alike
    return click.option(
        "--file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="SAXGW_API_KEYS",
        show_envvar=True,
        required=True,
        help="The file of keys.",
    )(command)


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of a gateway.

    They are in the file that `saxgw serve --api-keys` names, which a running gateway reads again when it changes.
    """


@keys.command(cls=Command)
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="read, generate or admin; may be repeated.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="PATTERN",
    help="Which models, such as /sax/test/*; may be repeated.  [default: all]",
)
@click.option(
    "--expires-in", callback=_read_lifetime, metavar="TIME", help="When it ends, such as 90d.  [default: never]"
)
@_file
def add(name: str, scopes: tuple[str, ...], models: tuple[str, ...], expires_in: float, file: Path) -> None:
    """Make a key, and print it.

    It is printed this once: the file has only its hash. NAME is what logs and limits call it.
    """
    from saxgw.access.keys import ApiKey, InvalidKey  # noqa: PLC0415 - --help can do without
    from saxgw.rpc.identity import ALL_MODELS  # noqa: PLC0415 - as above

    try:
        secret, key = ApiKey.new(name, scopes, models or ALL_MODELS, lifetime_s=expires_in)
    except InvalidKey as error:
        raise click.UsageError(str(error)) from error
    _change(file, lambda found: found.add(key))
    click.echo(secret)


@keys.command(cls=Command)
@click.argument("name")
@_file
def revoke(name: str, file: Path) -> None:
    """Take a key out of the file. A running gateway refuses it a second later."""
    _change(file, lambda found: found.revoke(name))


@keys.command("list", cls=Command)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@_file
def list_keys(output: str, file: Path) -> None:
    """List the keys: their names, and what they are good for."""
    from saxgw.access.keys import read_keys  # noqa: PLC0415 - as above
    from saxgw.watched import InvalidFile  # noqa: PLC0415 - as above

    try:
        found = [orjson.loads(key.to_json()) for key in read_keys(file).values()]
    except InvalidFile as error:
        raise Failed(str(error)) from error
    out = Output(json=output == "json")
    if out.json:
        out.as_json({"keys": [{name: value for name, value in key.items() if name != "sha256"} for key in found]})
        return
    out.table(
        ["NAME", "SCOPES", "MODELS", "CREATED", "EXPIRES"],
        (
            [key["name"], ",".join(key["scopes"]), ",".join(key["models"]), key["created"], key.get("expires", "never")]
            for key in found
        ),
    )


def _change(file: Path, change: Callable[[KeyFile], None]) -> None:
    from saxgw.access.key_file import KeyFile  # noqa: PLC0415 - as above
    from saxgw.access.keys import InvalidKey  # noqa: PLC0415 - as above
    from saxgw.watched import InvalidFile  # noqa: PLC0415 - as above

    try:
        change(KeyFile(file))
    except (InvalidFile, InvalidKey) as error:
        raise Failed(str(error)) from error

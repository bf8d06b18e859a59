"""The command line: parses, calls, prints.

Exit codes: 0 done, 1 failed, 2 wrong usage; 128 + n if signal n ended the command, as shells have it.
"""

from __future__ import annotations

import copy
import signal
import sys
from typing import Final

import click

from saxgw import __version__
from saxgw.cli import keys, listing, models, serve, text
from saxgw.cli.output import discard_output


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A gRPC and HTTP/JSON gateway in front of a Saxml cell, and commands for whoever uses one.

    Commands for a cell take --server HOST:PORT, the gRPC door of a gateway, or --sax-root, where cells are registered.
    """


_SAXUTIL_NAMES: Final = {"lm.generate": text.generate, "lm.score": text.score, "lm.embed": text.embed}
"""Commands under the names that they have in saxutil."""

for command in (
    serve.serve,
    serve.dev,
    serve.print_openapi,
    keys.keys,
    listing.ls,
    listing.stats,
    models.publish,
    models.update,
    models.update_checkpoint,
    models.unpublish,
    models.wait,
    text.generate,
    text.score,
    text.embed,
):
    main.add_command(command)

for name, command in _SAXUTIL_NAMES.items():
    alias = copy.copy(command)
    alias.hidden = True
    main.add_command(alias, name)


def run() -> None:
    """Runs the command that the process was started with, and ends the process."""
    try:
        code = main.main(prog_name="saxgw", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # what click makes of Ctrl-C
        code = 128 + signal.SIGINT
    except OSError as error:  # of what click prints itself
        discard_output()
        click.echo(f"saxgw: {error.strerror or error}", err=True)
        code = 1
    sys.exit(code)

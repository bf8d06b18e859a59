"""What is said when a gateway is ready."""

from __future__ import annotations

from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Ready:
    """What a gateway serves, and where, and what whoever starts it should know."""

    line: str
    warning: str | None = None

    def show(self, more: str = "") -> None:
        """Prints it, with something at the end of the line."""
        if self.warning:
            click.echo(f"saxgw: {self.warning}", err=True)
        click.echo(f"{self.line}{more}")

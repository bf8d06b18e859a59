"""What documentation pages have that can be tried: commands with what they give, and code."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path


async def shell(command: str, environment: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Output and errors of a shell command that must succeed; `saxgw` in it is that of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": path, **(environment or {})},
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return output.decode(), errors.decode()


def console_commands(text: str) -> list[tuple[str, str]]:
    """(command, expected output) of each `$ …` in the text's console blocks; `...` stands for anything."""
    commands = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = entry.splitlines()
            end = next(n for n in range(1, len(lines) + 1) if is_complete("\n".join(lines[:n])))
            commands.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return commands


def is_complete(command: str) -> bool:
    """Whether all quotes of a shell command are closed."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def matches(expected: str, actual: str) -> bool:
    """Whether the output is the expected one, in which `...` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.strip().split("..."))), actual.strip(), re.DOTALL) is not None


async def walk_through(page: str, address: str, real_address: str, *, tool: str = "curl ") -> int:
    """Runs a page's commands of one tool, in which `address` is replaced, and returns how many there are."""
    commands = [command for command in console_commands(page) if command[0].startswith(tool)]
    for command, expected in commands:
        output, _ = await shell(command.replace("curl ", "curl -sS ", 1).replace(address, real_address))
        assert matches(expected, output), f"{command}\ngave {output}\nnot  {expected}"
    return len(commands)


async def at_the_command_line(page: str, server: str) -> int:
    """Runs a page's saxgw commands against a gateway, and returns how many there are."""
    commands = [command for command in console_commands(page) if "saxgw " in command[0]]
    for command, expected in commands:
        output, _ = await shell(command, {"SAXGW_SERVER": server})
        assert matches(expected, output), f"{command}\ngave {output}\nnot  {expected}"
    return len(commands)


def code_blocks(page: str, language: str) -> list[str]:
    """The page's blocks of code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def code_block(page: str, language: str, containing: str) -> str:
    """The one block of code in a language that has something in it."""
    [block] = [block for block in code_blocks(page, language) if containing in block]
    return block

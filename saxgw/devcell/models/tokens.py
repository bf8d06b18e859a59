"""How the built-in model cuts a text into tokens, and which token may follow which.

A token is a word with its leading space, a punctuation mark with its leading space, or one white-space character:

    "Oh dear! I'm late."  →  "Oh", " dear", "!", " I'm", " late", "."

Every text has exactly one such cutting, its canonical one, and the tokens joined are the text again. Where one token
ends and the next begins can be told from the characters on both sides alone, which is what `Boundary` tells. A
sampler that obeys it produces canonical sequences only: cutting the text it wrote gives back the tokens it drew.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

END: Final = ""
"""The token that ends a text. It is written as nothing."""

UNKNOWN: Final = "<unknown>"
"""Stands in a history for any token outside the vocabulary. The cutting never gives these characters as one token."""

# Word characters include the apostrophe, straight or curly: "don't" is one token, and boundaries stay a matter of two
# characters.
_TOKEN: Final = re.compile(r" ?[\w'\u2019]+| ?[^\w\s'\u2019]|\s")
_WORD_CHARACTER: Final = re.compile(r"[\w'\u2019]")
_SPACE: Final = " "
_PARAGRAPH_BREAK: Final = re.compile(r"(?:[^\S\n]*\n){2,}")


def tokenize(text: str) -> list[str]:
    """Cuts a text into its canonical tokens. Never fails; `"".join` of the result is the text."""
    return _TOKEN.findall(text)


def paragraphs(text: str) -> list[str]:
    """Splits a text at its blank lines; white space around paragraphs is dropped."""
    return [stripped for part in _PARAGRAPH_BREAK.split(text) if (stripped := part.strip())]


class Boundary(Enum):
    """What the text so far asks of the token that follows it."""

    ANYTHING = "any token may follow"
    WORD = "the text ends with a word character; a second one would lengthen the word"
    LONE_SPACE = "the text ends with a token that is one space; it would join anything but white space"
    OPEN_SPACE = "the text ends with a space that belongs to the next token"

    def allows(self, token: str) -> bool:
        """Tells whether `token`, written here, is cut off here again. END always may follow, but not an open space."""
        match self:
            case Boundary.ANYTHING:
                return True
            case Boundary.WORD:
                return not _WORD_CHARACTER.match(token)
            case Boundary.LONE_SPACE:
                return token == END or token[0].isspace()
            case Boundary.OPEN_SPACE:
                return token.startswith(" ")


def boundary_after(token: str) -> Boundary:
    """Returns what `token`, the last of a text, asks of the next one."""
    if token == _SPACE:
        return Boundary.LONE_SPACE
    if token != END and _WORD_CHARACTER.match(token[-1]):
        return Boundary.WORD
    return Boundary.ANYTHING

"""What may go wrong with a cell.

    SaxError
    ├── InvalidName           a name, path, checkpoint or SAX_ROOT of an impossible form; nothing was sent
    ├── RootUnavailable       SAX_ROOT itself is missing or cannot be read
    ├── InvalidArgument       the cell refused what was asked, with its words
    ├── CellNotFound          SAX_ROOT has no such cell
    ├── ModelNotFound         the admin says that the model is not published
    ├── ModelExists           the admin says that the model is published already
    ├── AdminUnavailable      the admin has never run, or cannot be reached, or asks to come back later
    ├── ReplicasUnavailable   published, but no model server was ready or reachable in time
    ├── Busy                  all model servers that were asked are at their limit
    ├── StreamBroken          a model server went away in the middle of a stream
    ├── Revised               a stream that only adds has lost its model's consent: the model took text back
    └── CellError             any other answer of the cell; its gRPC code is in `code`

The message of each says what is wrong and what to do, for the person who made the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class SaxError(Exception):
    """Base of everything that this package raises on purpose; `str()` of it is a sentence for people."""


class InvalidName(SaxError, ValueError):
    """A name, model path, checkpoint or SAX_ROOT is malformed. Nothing was sent to the cell."""


class RootUnavailable(SaxError):
    """SAX_ROOT, all of it, is missing, forbidden or out of reach, so nothing is known of its cells."""


class InvalidArgument(SaxError):
    """The cell refused the request for what it says; the message holds the cell's words."""


class CellNotFound(SaxError):
    """There is no such cell under SAX_ROOT."""


class ModelNotFound(SaxError):
    """The model is not published."""


class ModelExists(SaxError):
    """The model is published already."""


class AdminUnavailable(SaxError):
    """The cell's admin server has never run, cannot be reached, or asks to come back later."""


class ReplicasUnavailable(SaxError):
    """The model is published, but no model server was ready for it, or reachable, in time."""


class Busy(SaxError):
    """Every model server that was asked has as many requests as it takes; trying again later may succeed."""


class StreamBroken(SaxError):
    """The stream of a model server ended in the middle; what has come of it until then is good."""


class Revised(SaxError):
    """The model took back text of a stream that was asked to only ever add."""


class CellError(SaxError):
    """The cell answered with an error that has no class of its own here."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        """The gRPC status code of the answer, already normalised (Sax protocol §4.1)."""

    def __reduce__(self) -> tuple[type[CellError], tuple[grpc.StatusCode, str]]:
        """For copies: what exceptions have of themselves lacks the code."""
        return CellError, (self.code, str(self))

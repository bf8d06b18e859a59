"""A small Sax cell for development: an admin server and model servers on loopback."""

from __future__ import annotations

from saxgw.devcell.admin import AdminServer
from saxgw.devcell.cell import DevCell
from saxgw.devcell.errors import DevCellError
from saxgw.devcell.fault import Fault
from saxgw.devcell.language_model import ExtraInput, LanguageModel, Piece, Settings, Steps
from saxgw.devcell.modelet import ModelServer
from saxgw.devcell.models import BUILT_IN
from saxgw.devcell.models.ngram_lm import NgramLm
from saxgw.devcell.timing import GOOGLE_TIMING, Timing

__all__ = [
    "BUILT_IN",
    "GOOGLE_TIMING",
    "AdminServer",
    "DevCell",
    "DevCellError",
    "ExtraInput",
    "Fault",
    "LanguageModel",
    "ModelServer",
    "NgramLm",
    "Piece",
    "Settings",
    "Steps",
    "Timing",
]

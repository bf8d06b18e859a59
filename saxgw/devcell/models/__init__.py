"""The models that every model server can serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saxgw.devcell.models.ngram_lm import NgramLm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.devcell.language_model import LanguageModel

BUILT_IN: Final[Mapping[str, type[LanguageModel]]] = {
    "saxgw.devcell.NgramLm": NgramLm,
    # The model path of Sax's own walk-through, so that it can be followed to the letter.
    "saxml.server.pax.lm.params.lm_cloud.LmCloudSpmd2BTest": NgramLm,
}
"""Model classes by model path."""

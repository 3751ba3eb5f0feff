"""Words and names of tasks in any script."""

from __future__ import annotations

import json
import re

import pytest
from curation_samples import log_of, record

from slmfleet.curation import naming
from slmfleet.curation.calls import call_of
from slmfleet.curation.discover import Settings, discover
from slmfleet.curation.language import language_of
from slmfleet.curation.words import best, common_words, latin, words_of


@pytest.mark.parametrize(
    "text, words",
    [
        ("playMusic get_HTTPResponse 42", ["play", "music", "get", "http", "response", "42"]),
        ("Straße müssenWir", ["straße", "müssen", "wir"]),
        ("какая погода", ["какая", "погода"]),
        ("मौसम कैसा", ["मौसम", "कैसा"]),  # vowel signs belong to their word
        ("الطقس غدا", ["الطقس", "غدا"]),
        ("날씨 어때", ["날씨", "어때"]),
        ("打开音乐", ["打开", "开音", "音乐"]),
        ("客厅的灯", ["客厅", "灯"]),
        ("キッチンの電気", ["キッチン", "電気"]),
        ("ＡＢＣ", ["abc"]),
        ("จองตั๋วเครื่องบินticket 2 ใบ", ["จอง", "ตั๋ว", "เครื่อง", "บิน", "ticket", "2", "ใบ"]),
        ("ค่าน้ำประปา", ["ค่าน้ำ", "ประปา"]),  # NFKC takes the last vowel of the first apart
        ("ຈອງປີ້ຍົນ", ["ຈອງ", "ປີ້", "ຍົນ"]),
        ("កក់សំបុត្រយន្តហោះ", ["កក់", "សំបុត្រ", "យន្តហោះ"]),
        ("လေယာဉ်လက်မှတ်", ["လေယာဉ်", "လက်မှတ်"]),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words


ROMANISED = [("погода", "pogoda"), ("天气", "tianqi"), ("straße", "strasse"), ("मौसम", "mausm")]


@pytest.mark.parametrize("word, name", ROMANISED)
def test_a_name_has_the_words_in_latin_letters(word: str, name: str) -> None:
    assert latin(word) == name
    assert naming.slug(["intent", word]) == f"intent-{name}"


@pytest.mark.parametrize("word", ["天" * 60, "погода" * 20, "🎉", "--", ""])
def test_every_name_is_one_that_kubernetes_accepts(word: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,46}[a-z0-9])?", naming.slug([word]))


def test_pairs_of_characters_that_continue_each_other_are_one_term() -> None:
    assert best({"爵士": 0.3, "士乐": 0.3, "客厅": 0.2, "开客": 0.1}, 2) == ["爵士乐", "客厅"]


def test_function_words_are_those_of_the_languages_spoken() -> None:
    german = common_words(["Ich möchte die Rechnung für meine letzte Bestellung"] * 20)
    assert {"die", "für", "the"} <= german
    assert "die" not in common_words(["show me the invoice of my last order, please"] * 20)


@pytest.mark.parametrize(
    "text, language",
    [("明天天气怎么样", "zh"), ("明日の天気は", "ja"), ("தமிழ் மொழியில் ஒரு கேள்வி", "ta"), ("Какая завтра погода?", "ru"),
     ("Є питання щодо рахунку", "uk"), ("play jazz", "und")],
)  # fmt: skip
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


FORMS = {
    "zh": ("请查询{n}号订单的发票", {"意图": "发票"}, "播放第{n}首音乐", {"意图": "音乐"}),
    "th": ("ช่วยยกเลิกคำสั่งซื้อ{n}ให้หน่อย", {"intent": "ยกเลิก"}, "เปิดเพลงหมายเลข{n}", {"intent": "เพลง"}),
    "lo": ("ກະລຸນາຍົກເລີກຄຳສັ່ງຊື້{n}", {"intent": "ຍົກເລີກ"}, "ເປີດເພງເລກທີ{n}", {"intent": "ເພງ"}),
    "km": ("សូមលុបចោលការបញ្ជាទិញ{n}", {"intent": "លុប"}, "ចាក់តន្ត្រីលេខ{n}", {"intent": "តន្ត្រី"}),
    "my": ("မှာယူမှု{n}ကိုပယ်ဖျက်ပေးပါ", {"intent": "ပယ်ဖျက်"}, "သီချင်းနံပါတ်{n}ဖွင့်ပေးပါ", {"intent": "သီချင်း"}),
    "ru": ("Пришлите счёт за заказ {n}", {"intent": "счёт"}, "Включи музыку номер {n}", {"intent": "музыка"}),
}


@pytest.mark.parametrize("language, expected", [
    ("zh", {"fapiao", "dingdan"}), ("ru", {"schet", "muzyku"}), ("th", {"ykelik", "ephlng"}),
    ("lo", {"gnokelik", "ephng"}), ("km", {"lubchaol", "tntrei"}), ("my", {"pyphyk", "thikhyng"}),
])  # fmt: skip
def test_a_task_of_another_script_is_named_and_known_again(language: str, expected: set[str]) -> None:
    one, said_one, two, said_two = FORMS[language]
    lines = []
    for number in range(120):
        form, said = ((one, said_one), (two, said_two))[number % 2]
        messages = [{"role": "system", "content": "JSON"}, {"role": "user", "content": form.format(n=number)}]
        lines.append(record(number, messages, json.dumps(said, ensure_ascii=False)))
    found = discover(log_of(lines), Settings(embedder="lexical"))
    (task,) = found.clusters.clusters
    assert set(task.name.split("-")) & expected, task.name
    again = discover(log_of(lines), Settings(embedder="lexical"), found.likeness)
    drift = again.clusters.clusters[0].drift
    assert again.clusters.clusters[0].name == task.name
    assert drift is not None and (drift.distance, drift.noise_share) == (0, 0)


def test_no_part_of_a_denied_name_that_a_dictionary_cuts_is_in_a_name() -> None:
    name, text = "สมชาย ใจดี", "ส่งใบแจ้งหนี้ให้นายสมชาย ใจดีทราบ {n}"
    lines = [record(n, [{"role": "user", "content": text.format(n=n)}], json.dumps({"ok": n % 2})) for n in range(60)]
    calls = [call_of(r) for r in log_of(lines).records]
    free, held = naming.top_terms(calls, (), 12), naming.top_terms(calls, (), 12, naming.denied_words([(name, "name")]))
    assert {term for term in free if term in name} and {"ทราบ"} < set(held)
    assert not {term for term in held if term in name}

"""The language of a text, by its script and its commonest words.

Enough to keep a dataset to the languages that were asked for; texts too short or too mixed to tell are `und` (ISO
639-3) and never refused for it. Twelve languages of the Latin script by function words, the others by script. Not told
apart: languages that share a script here (Ukrainian from Russian by its own letters only; Urdu and Persian count as
Arabic, Marathi as Hindi, Bulgarian as Russian).
"""

from __future__ import annotations

import re
from collections import Counter

UNDETERMINED = "und"
MIN_WORDS = 5
_WORD = re.compile(r"[^\W\d_]+")
_SCRIPTS = (
    ("ja", "\u3040\u30ff"), ("ko", "\uac00\ud7af"), ("zh", "\u4e00\u9fff"), ("ar", "\u0600\u06ff"),
    ("he", "\u0590\u05ff"), ("hi", "\u0900\u097f"), ("th", "\u0e00\u0e7f"), ("el", "\u0370\u03ff"),
    ("ru", "\u0400\u04ff"), ("bn", "\u0980\u09ff"), ("ta", "\u0b80\u0bff"), ("te", "\u0c00\u0c7f"),
    ("kn", "\u0c80\u0cff"), ("ml", "\u0d00\u0d7f"), ("gu", "\u0a80\u0aff"), ("pa", "\u0a00\u0a7f"),
    ("si", "\u0d80\u0dff"), ("ka", "\u10a0\u10ff"), ("hy", "\u0530\u058f"), ("am", "\u1200\u137f"),
    ("km", "\u1780\u17ff"), ("lo", "\u0e80\u0eff"), ("my", "\u1000\u109f"),
)  # fmt: skip
_FUNCTION_WORDS = {
    "en": "the of and to in is that it for you with on are this be my have not what can i how a please your from do "
    "does did when where which why if am was will would me we they has",
    "de": "der die das und ist nicht ich zu ein eine den mit auf für es von sie wie mein kann bitte auch im wir",
    "fr": "le la les des et est une un je que pour dans vous pas ce sur avec mon au du ne plus qui votre comment",
    "es": "el la los las de que y en un una es no por con para mi se lo me como su está puedo del más qué",
    "it": "il lo la gli di che e un una è non per con mi sono del come posso della si ho più mio nel",
    "pt": "o os as de que e um uma é não para com por meu minha se como do da no na eu você posso mais",
    "nl": "de het een en van is niet ik dat te op voor met mijn zijn je wat hoe kan er naar heb deze aan",
    "sv": "och att det är en ett jag som på inte för med av den till min har kan hur vad om du",
    "da": "og at det er en et jeg som på ikke for med af den til min har kan hvordan hvad om du",
    "pl": "i w na nie się z do jest że to jak mój mam czy dla od po za co jestem moje proszę",
    "tr": "ve bir bu için ile ben ne var mi mı değil nasıl çok daha olarak gibi ama benim lütfen",
    "id": "yang dan di ini itu saya untuk dengan tidak dari ke ada bagaimana apa bisa adalah pada akan",
    # Told by their script; the words are left out of names.
    "ru": "и в на не что я мне меня с по за из для это как у о до к от где мой моя есть ли бы он она вы ты мы его",
    "ar": "من في على إلى عن مع هل ما هذا هذه أن لا لم كيف أين لي هو هي أو كل قد يا بعد كان",
    "hi": "का के की में है को से मैं मुझे क्या यह कि पर और नहीं मेरा मेरी मेरे कैसे लिए हो ने एक वह तो ही भी",
    "th": "การ ฉัน ผม คุณ ที่ และ ของ เป็น ไม่ ได้ ให้ จะ ช่วย ต้องการ อยาก ครับ ค่ะ หน่อย กรุณา โปรด นี้ ว่า กับ แล้ว อะไร อย่างไร ด้วย",
    "lo": "ຂ້ອຍ ເຈົ້າ ທີ່ ແລະ ຂອງ ແມ່ນ ບໍ່ ໄດ້ ໃຫ້ ຈະ ຊ່ວຍ ຕ້ອງການ ຢາກ ກະລຸນາ ນີ້ ວ່າ ກັບ ແລ້ວ ແດ່ ຫຍັງ",
    "km": "ការ ខ្ញុំ អ្នក ដែល និង របស់ ក្នុង ជា មិន បាន ឲ្យ ឱ្យ មាន នឹង ជួយ ចង់ សូម នេះ ទៅ ពី អ្វី ត្រូវ",
    "my": "ကျွန်တော် ကျွန်မ သည် ကို မှာ နဲ့ တယ် ပါ ပါတယ် ချင် ဒီ ပေး များ ဖြစ် လို့ ကြောင်း အတွက် ပြီး",
}
LANGUAGES = tuple(sorted({*_FUNCTION_WORDS, *(code for code, _ in _SCRIPTS), "uk"}))
COMMON = {code: frozenset(words.split()) for code, words in _FUNCTION_WORDS.items()}


def language_of(text: str) -> str:
    """ISO 639-1 code, or `und`."""
    sample = text[:4000]
    letters = [c for c in sample if c.isalpha()]
    if not letters:
        return UNDETERMINED
    by_script = Counter(code for c in letters if c > "\u024f" for code, span in _SCRIPTS if span[0] <= c <= span[1])
    if by_script:
        code, count = by_script.most_common(1)[0]
        if by_script["ja"] >= 0.1 * len(letters):
            return "ja"
        if count >= 0.4 * len(letters):
            return "uk" if code == "ru" and any(c in "іїєґІЇЄҐ" for c in sample) else code
    words = [w.lower() for w in _WORD.findall(sample)]
    if len(words) < MIN_WORDS:
        return UNDETERMINED
    score = Counter({code: sum(1 for w in words if w in known) for code, known in COMMON.items()})
    (best, first), (_, second) = score.most_common(2)
    return best if first >= max(2, 0.12 * len(words)) and first > 1.15 * second else UNDETERMINED

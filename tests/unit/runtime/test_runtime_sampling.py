"""What a caller may ask for, and text that grows without being taken back."""

import pytest
from engine.errors import EngineError
from engine.sampling import GrowingText, Sampling, parse_object, parse_sampling
from hypothesis import given
from hypothesis import strategies as st


def test_absent_parameters_mean_greedy_on_the_base():
    assert parse_sampling(parse_object("")) == Sampling()


def test_numbers_may_be_strings_as_in_tritons_request_parameters():
    parsed = parse_sampling({"max_tokens": "9", "temperature": "0.5", "lora_name": "a", "stop": "\n", "unknown": 1})
    assert parsed == Sampling(adapter="a", max_tokens=9, temperature=0.5, stop=("\n",))


@pytest.mark.parametrize(
    "given_parameters",
    [
        {"max_tokens": 0},
        {"max_tokens": "many"},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"stop": [""]},
        {"stop": 3},
        {"n": 2},
        {"lora_name": 7},
    ],
)
def test_nonsense_is_refused_by_name(given_parameters):
    with pytest.raises(EngineError, match=next(iter(given_parameters))) as refusal:
        parse_sampling(given_parameters)
    assert refusal.value.reason == "BadRequest"


@pytest.mark.parametrize("text", ["{", "[]", '"a"'])
def test_parameters_that_are_no_object_are_refused(text):
    with pytest.raises(EngineError, match="sampling_parameters"):
        parse_object(text)


def bytes_of(ids):
    return bytes(ids).decode("utf-8", "replace")


def pieces(text, stop=()):
    growing, ids, sent = GrowingText(bytes_of, stop), [], []
    data = text.encode("utf-8")
    for index, byte in enumerate(data):
        ids.append(byte)
        sent.append(growing.grow(ids, last=index + 1 == len(data)))
        if growing.stopped:
            break
    return sent, growing


@given(st.text(min_size=1, max_size=30))
def test_pieces_put_together_are_the_text(text):
    sent, growing = pieces(text)
    assert "".join(sent) == growing.whole == text


def test_half_a_character_is_held_back():
    sent, _ = pieces("aé")
    assert sent == ["a", "", "é"]


def test_text_ends_before_a_stop_string_and_its_beginning_is_never_sent():
    sent, growing = pieces("yes</s>rest", stop=("</s>",))
    assert growing.stopped
    assert "".join(sent) == growing.whole == "yes"


def test_a_beginning_of_a_stop_string_that_goes_on_otherwise_is_sent():
    sent, _ = pieces("a<b", stop=("</s>",))
    assert sent == ["a", "", "<b"]

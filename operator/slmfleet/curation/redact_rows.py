"""A task's calls as redacted rows: what was written is read by the model, the form of a call is not, and what the
answer copied from the prompt is a copy still.
"""

from __future__ import annotations

from itertools import islice

from slmfleet.curation import vocabulary
from slmfleet.curation.calls import Call
from slmfleet.curation.constants import Constants
from slmfleet.curation.contents import texts_of
from slmfleet.curation.copies import broken
from slmfleet.curation.members import Members
from slmfleet.curation.redact import BATCH, NO_WORDS, Redactor, Words, strings_in
from slmfleet.curation.rows import INSTRUCTIONS, Row, answer_of, messages_of, row_of


def learn(redactor: Redactor, members: Members) -> None:
    """Find the values of every member, and those that nearly every system prompt holds."""
    calls, constants = members.calls(), Constants()
    while block := list(islice(calls, BATCH)):
        said = [(call, *texts_of([*messages_of(call), answer_of(call)])) for call in block]
        redactor.prepare(text for _, texts, _ in said for text in texts)
        for call, texts, forms in said:
            own = vocabulary.of_request(call.record.request)
            for text in texts:
                redactor.learn(call.conversation, text, own)
            for text in forms:
                redactor.learn_form(call.conversation, text)
            system, _ = texts_of([m for m in messages_of(call) if m.get("role") in INSTRUCTIONS])
            constants.add(span for text in system for span in redactor.values_in(text, own))
    redactor.settle(constants.found())


def redacted_row(redactor: Redactor, call: Call, repaired: str | None) -> Row | None:
    """The redacted row. Where redaction broke a copy, once more without these finds; None where that does not do."""
    own, messages = vocabulary.of_request(call.record.request), [*messages_of(call), answer_of(call, repaired)]
    row = _with_copies(redactor, call, messages, own, NO_WORDS)
    lost = broken(messages, row["messages"])
    if not lost:
        return row
    if not all(may_stay for _, may_stay in lost):
        return None
    row = _with_copies(redactor, call, messages, own, vocabulary.in_lower_case(value for value, _ in lost))
    texts, _ = searched(row)
    if broken(messages, row["messages"]) or any(redactor.leaks(t, own) for t in texts):
        return None
    return row


def _with_copies(redactor: Redactor, call: Call, messages: list[Row], own: Words, copied: Words) -> Row:
    row = row_of(
        call,
        messages,
        lambda text: redactor.redact(call.conversation, text, own, copied),
        lambda text: redactor.redact_form(call.conversation, text),
    )
    return row | {key: redactor.identity(row[key]) for key in ("id", "conversation")}


def searched(row: Row) -> tuple[list[str], list[str]]:
    """What the leak test reads of a row: the texts that were written, and the others."""
    texts, forms = texts_of(row["messages"])
    return [row["id"], row["conversation"], *texts], [
        row["id"],
        row["conversation"],
        *forms,
        *strings_in(row.get("tools")),
    ]

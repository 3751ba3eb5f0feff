"""A Router's redaction: what is replaced beside what always is, and what status says of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slmfleet.api.base import Model, SecretKey
from slmfleet.wire.denylist import DEFAULT_KIND, KIND

Kind = Annotated[str, Field(max_length=41, pattern=KIND)]


class DeniedValue(Model):
    """A value that is replaced wherever it stands, in any case."""

    value: str = Field(
        min_length=2,
        max_length=128,
        pattern=r"^[^\s#][^\x00-\x1f\x7f]*$",
        description="The value; no control characters, and neither # nor a space first.",
    )
    kind: Kind = Field(DEFAULT_KIND, description="Name in reports.")


class Pattern(Model):
    """A regular expression of your own, in RE2's syntax; its group `v`, where there is one, is the value."""

    kind: Kind = Field(description="Name in reports.")
    regex: str = Field(min_length=1, max_length=500, description="In RE2's syntax.")
    ignore_case: bool = Field(False, description="Whether capitals do not matter.")


class Redaction(Model):
    """What is replaced in examples and datasets, beside what always is."""

    model: str = Field(
        "default",
        max_length=253,
        pattern=r"^(default|none|(spacy|transformers|gliner):[-\w./]+)$",
        description="What finds names: default, none, or spacy:NAME, transformers:NAME, gliner:NAME where the jobs' "
        "image has it.",
    )
    deny_list: list[DeniedValue] = Field(
        default_factory=list, max_length=200, description="Values of your own; whoever may read the Router reads them."
    )
    deny_list_secret_ref: SecretKey | None = Field(
        None, description="More values that nobody else may read: one a line, after a tab its kind."
    )
    patterns: list[Pattern] = Field(default_factory=list, max_length=32, description="Patterns of your own.")


class RedactionStatus(Model):
    """The settings of redaction in use."""

    denied: int = Field(0, ge=0, description="Values of both deny lists.")
    deny_list_digest: str | None = Field(
        None, max_length=64, description="Keyed digest of the Secret's values: it tells a change, and not the values."
    )

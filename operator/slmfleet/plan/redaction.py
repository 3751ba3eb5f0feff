"""The redaction that a Router asks for: whether it can be used, what jobs are told of it, and what marks a change.

A job's rules travel with the job, as annotations of its pod that the pod reads as files: nobody can change them under
it, and no object of their own is left behind. Values of a Secret are mounted, and never pass through the operator's
objects or status; of them it knows how many there are and a keyed digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from slmfleet.api import conditions
from slmfleet.api.base import Condition
from slmfleet.api.redaction import Redaction, RedactionStatus
from slmfleet.plan.facts import DenyList, RouterObject
from slmfleet.plan.names import PART, short
from slmfleet.plan.pods import SecretMount
from slmfleet.wire.denylist import listed
from slmfleet.wire.expressions import Expression

RULES, PRIVATE = "/redaction/rules", "/redaction/private"
DENY, PATTERNS = f"{PART}/deny-list", f"{PART}/patterns"


@dataclass(frozen=True)
class Told:
    """What one job gets: options, annotations of its pod, the files that show them, and a Secret."""

    options: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    secrets: list[SecretMount] = field(default_factory=list)


def told(spec: Redaction) -> Told:
    """For `discover` and `curate`: nothing where the defaults are meant."""
    found = Told(options=["--model", spec.model] if spec.model != "default" else [])
    if spec.deny_list:
        found.options.extend(("--deny", f"{RULES}/deny.txt"))
        found.files["deny.txt"] = DENY
        found.annotations[DENY] = listed((each.value, each.kind) for each in spec.deny_list)
    if spec.patterns:
        found.options.extend(("--patterns", f"{RULES}/patterns.yaml"))
        found.files["patterns.yaml"] = PATTERNS
        rules = [each.model_dump(exclude_defaults=True) for each in spec.patterns]
        found.annotations[PATTERNS] = yaml.safe_dump({"patterns": rules}, sort_keys=True)
    if spec.deny_list_secret_ref is not None:
        ref = spec.deny_list_secret_ref
        found.options.extend(("--deny", f"{PRIVATE}/deny.txt"))
        found.secrets.append(SecretMount(ref.name, PRIVATE, ((ref.key, "deny.txt"),)))
    return found


def status(spec: Redaction, private: DenyList | None) -> RedactionStatus | None:
    """What is in use; None where it is the default alone."""
    if spec == Redaction():
        return None
    return RedactionStatus(denied=len(spec.deny_list) + (private.values if private else 0),
                           deny_list_digest=private.digest if private else None)


def digest(me: RouterObject) -> str | None:
    """Marks the settings that a dataset was made with; None for the default, as before there were any."""
    stated = me.spec.redaction.model_dump(exclude_defaults=True, exclude={"deny_list_secret_ref"})
    private = _private_digest(me)
    return short([stated, private]) if stated or private else None


def part(me: RouterObject) -> Condition | None:
    """The Router's condition; None where nothing is set. While it is not True nothing is redacted, so nothing read."""
    spec = me.spec.redaction
    if spec == Redaction():
        return None
    refused = _refused(spec)
    if refused is not None:
        return conditions.false("RedactionReady", "RuleInvalid", f"{refused}. Nothing is discovered or curated with it")
    ref = spec.deny_list_secret_ref
    if ref is not None and _private_digest(me) is None:
        return conditions.false("RedactionReady", "DenyListMissing",
                                f"spec.redaction.denyListSecretRef: there is no Secret {ref.name} with UTF-8 text in "
                                f"its key {ref.key}; nothing is discovered or curated without it")
    denied = me.status.redaction.denied if me.status.redaction else len(spec.deny_list)
    return conditions.true("RedactionReady", "InUse",
                           f"model {spec.model}, {denied} denied values, {len(spec.patterns)} patterns")


def held(me: RouterObject) -> Condition | None:
    """The condition that keeps jobs from being made, if so."""
    found = part(me)
    return found if found is not None and found.status != "True" else None


def _private_digest(me: RouterObject) -> str | None:
    if me.spec.redaction.deny_list_secret_ref is None or me.status.redaction is None:
        return None
    return me.status.redaction.deny_list_digest


def _refused(spec: Redaction) -> str | None:
    """The first rule that cannot be used, by its field."""
    for index, denied in enumerate(spec.deny_list):
        if not any(c.isalnum() for c in denied.value):
            return f"spec.redaction.denyList[{index}].value: has no letter and no digit"
    for index, pattern in enumerate(spec.patterns):
        try:
            Expression(pattern.regex, pattern.ignore_case)
        except ValueError as error:
            return f"spec.redaction.patterns[{index}].regex: {error}"
    return None

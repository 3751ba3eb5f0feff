"""The gate: from what was measured to a verdict, as a chain of checks. Pure: facts in, checks out.

Every check runs, every check is shown, worst first. A check that is `required` refuses the candidate when it fails; one
that is not only tells. A check that had nothing to judge passes and says so in its reason (`NotMeasured`, `TooFew…`).

Not covered: whether the LLM's recorded answers are right; behaviour on calls that the held-out traffic has none of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from slmtrain.facts import Facts, Figure, Gate, Slice
from slmtrain.stats import at_most, difference, upper_bound

SMALLEST_SLICE = 20  # conversations; below it a slice is reported, not judged
SMALLEST_BASELINE = 30  # groups of like prompts; below it the LLM's agreement with itself is not measured


@dataclass(frozen=True)
class Check:
    """One judgement. `slack`: how far the figure is from its limit, as a share of 1; below 0 where it failed."""

    name: str
    passed: bool
    reason: str
    message: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True
    slack: float = 1.0


def run(facts: Facts, gate: Gate) -> list[Check]:
    """Every check, worst first: what refuses, what only warns, then the narrowest pass."""
    checks = [check(facts, gate) for check in CHAIN]
    return sorted(checks, key=lambda check: (check.passed, not check.required, check.slack))


def passed(checks: Sequence[Check]) -> bool:
    return all(check.passed or not check.required for check in checks)


def floor(facts: Facts, gate: Gate) -> Check:
    """The estimate of every judged metric reaches the floor, and its interval lies within the margin below it.

    | estimate | lower | floor | margin | |
    |---|---|---|---|---|
    | 0.95 | 0.93 | 0.90 | 0.03 | AboveFloor |
    | 0.91 | 0.88 | 0.90 | 0.03 | AboveFloor: 0.88 is within the margin |
    | 0.91 | 0.85 | 0.90 | 0.03 | TooUncertain: too few calls to know |
    | 0.89 | 0.88 | 0.90 | 0.03 | BelowFloor |
    """
    if not facts.judged or facts.judged[0].n == 0:
        return Check("Floor", False, "NothingToJudge", "no held-out example was left to judge", slack=-1.0)
    worst = worst_figure(facts.judged)
    figures = {
        "metric": worst.metric,
        "estimate": worst.estimate,
        "lower": worst.interval[0],
        "floor": gate.floor,
        "margin": gate.margin,
        "n": worst.n,
    }
    if worst.estimate < gate.floor:
        told = f"{worst.metric}: estimate {worst.estimate:.4f} is below the floor {gate.floor:.4f} ({worst.n} calls)"
        return Check("Floor", False, "BelowFloor", told, figures, slack=worst.estimate - gate.floor)
    least = gate.floor - gate.margin
    slack = worst.interval[0] - least
    if slack < 0:
        told = (
            f"{worst.metric}: lower bound {worst.interval[0]:.4f} at {gate.confidence:.0%} is below floor less "
            f"margin {least:.4f}; {worst.n} held-out calls are too few to know"
        )
        return Check("Floor", False, "TooUncertain", told, figures, slack=slack)
    told = f"{worst.metric} {worst.estimate:.4f}, at least {worst.interval[0]:.4f}; floor {gate.floor:.4f}"
    return Check("Floor", True, "AboveFloor", told, figures, slack=slack)


def worst_figure(figures: Sequence[Figure]) -> Figure:
    return min(figures, key=lambda figure: (figure.estimate, figure.interval[0]))


def non_inferiority(facts: Facts, gate: Gate) -> Check:
    """Agreement with the LLM is not lower, by the margin or more, than the LLM's agreement with itself.

    Told, and refused where the gate asks for it: a floor below what the LLM reaches is a choice that somebody made.
    Where the LLM never answered the same prompt twice its answers are the yardstick as they are, and the floor decides.
    """
    name, found, ours = "NonInferiority", facts.baseline, facts.compared
    if found is None or ours is None or found.groups < SMALLEST_BASELINE:
        told = (
            f"the LLM's answers to {facts.baseline_groups} prompts that came more than once can be compared; from "
            f"{SMALLEST_BASELINE} its agreement with itself is measured. Its recorded answers stand, and the floor "
            "decides"
        )
        return Check(name, True, "NotMeasured", told, {"prompts": facts.baseline_groups}, required=False)
    low, high = difference(ours.estimate, ours.interval, found.estimate, found.interval)
    figures = {
        "metric": ours.metric,
        "candidate": ours.estimate,
        "llm": found.estimate,
        "lower": round(low, 6),
        "upper": round(high, 6),
        "margin": gate.margin,
        "prompts": found.groups,
    }
    told = (
        f"{ours.metric}: agreement with the LLM {ours.estimate:.4f}, the LLM's with itself {found.estimate:.4f}; "
        f"difference {low:+.4f} to {high:+.4f}, margin {gate.margin:.4f}"
    )
    slack, required = low + gate.margin, gate.require_non_inferiority
    if slack <= 0:
        reason = "WorseThanTheLLM" if high < 0 else "TooUncertain"
        return Check(name, False, reason, told, figures, required, slack)
    return Check(name, True, "NotWorseThanTheLLM", told, figures, required, slack)


def worst_slice(facts: Facts, gate: Gate) -> Check:
    """No slice is, beyond doubt, below its floor.

    An exact binomial test over effective calls, at a level divided by the number of slices judged (Bonferroni): with
    fifty labels one would look bad by chance alone. Wilson's bound would blame a sound slice twice as often so far out.
    """
    name, least = "WorstSlice", gate.least_of_slice
    judged = [s for s in facts.slices if s.conversations >= SMALLEST_SLICE]
    small = len(facts.slices) - len(judged)
    beside = f"; {small} of fewer than {SMALLEST_SLICE} conversations are reported, not judged" if small else ""
    if not judged:
        return Check(name, True, "TooFewCalls", f"no slice is large enough to judge{beside}", {"small": small}, False)
    level = (1 - gate.confidence) / len(judged)
    worst = min(judged, key=lambda s: (at_most(*counts_of(s), least), s.estimate, s.kind, s.name))
    upper = upper_bound(*counts_of(worst), level)
    figures = {
        "kind": worst.kind,
        "slice": worst.name,
        "estimate": worst.estimate,
        "upper": round(upper, 6),
        "n": worst.n,
        "floor": least,
        "judged": len(judged),
        "small": small,
    }
    told = (
        f"{worst.kind} {worst.name!r} of {len(judged)} slices: {worst.estimate:.4f} on {worst.n} calls, at most "
        f"{upper:.4f}; floor of a slice {least:.4f}{beside}"
    )
    if at_most(*counts_of(worst), least) <= level:
        return Check(name, False, "SliceBelowFloor", told, figures, slack=upper - least)
    return Check(name, True, "SlicesAboveFloor", told, figures, slack=max(0.0, upper - least))


def counts_of(found: Slice) -> tuple[int, int]:
    """(right, of) as whole effective calls, rounded in the slice's favour."""
    n = max(1, int(found.effective))
    return math.ceil(round(found.estimate * n, 6)), n


def valid_format(facts: Facts, gate: Gate) -> Check:
    """Answers in a form that the caller can use. The gateway escalates the others, which costs time and money."""
    name, found = "ValidFormat", facts.valid
    if found is None or found.n == 0:
        return Check(name, True, "NotMeasured", "no answer to look at", required=False)
    figures = {"share": found.estimate, "floor": gate.least_valid, "n": found.n}
    told = f"{found.estimate:.4f} of the answers have a valid form; floor {gate.least_valid:.4f}"
    slack = found.estimate - gate.least_valid
    return Check(name, slack >= 0, "FormatsValid" if slack >= 0 else "FormatsBroken", told, figures, slack=slack)


def latency(facts: Facts, gate: Gate) -> Check:
    """95th percentile of single calls, where a limit is given."""
    limit, p95 = gate.max_latency_seconds, facts.latency_p95
    figures = {"p95_seconds": p95, "limit_seconds": limit, "measured_on": facts.measured_on}
    return _within("Latency", p95, limit, "s at the 95th percentile", figures, ("FastEnough", "TooSlow"))


def memory(facts: Facts, gate: Gate) -> Check:
    """Memory while it answered, where a limit is given."""
    limit, used = gate.max_memory_mib, facts.memory_mib
    figures = {"mib": used, "limit_mib": limit, "measured_on": facts.measured_on}
    return _within("Memory", used, limit, "MiB", figures, ("FitsMemory", "TooMuchMemory"))


def _within(
    name: str, used: float | None, limit: float | None, unit: str, figures: dict[str, Any], reasons: tuple[str, str]
) -> Check:
    where = figures["measured_on"]
    if used is None:
        refuses = limit is not None
        told = f"not measured on {where}" + (f", and the gate asks for at most {limit:g} {unit}" if refuses else "")
        return Check(name, not refuses, "NotMeasured", told, figures, required=refuses, slack=-1.0 if refuses else 1.0)
    if limit is None:
        return Check(name, True, "NoLimit", f"{used:.4g} {unit}, measured on {where}; no limit", figures, False)
    slack = (limit - used) / limit if limit else -1.0
    told = f"{used:.4g} {unit}, measured on {where}; at most {limit:g} are asked for"
    return Check(name, slack >= 0, reasons[0] if slack >= 0 else reasons[1], told, figures, slack=slack)


def redaction(facts: Facts, gate: Gate) -> Check:
    """The dataset carries a redaction report, and no value of the log survived redaction."""
    name, found = "RedactionReport", facts.reports
    if found.leaks is None:
        told = "the dataset's report.json says nothing of redaction; `slmfleet curate` writes it"
        return Check(name, False, "ReportMissing", told, required=gate.require_reports, slack=-1.0)
    figures = {"redacted": found.redacted or 0, "leaks": found.leaks}
    if found.leaks:
        told = f"{found.leaks} values of the log were found in the dataset after redaction"
        return Check(name, False, "PersonalDataLeft", told, figures, slack=-1.0)
    return Check(name, True, "NoLeaks", f"{found.redacted or 0} values replaced, none left", figures)


def licence(facts: Facts, gate: Gate) -> Check:
    """The dataset's card states under which terms it may be used, as an SPDX expression (annex D of the specification,
    https://spdx.github.io/spdx-spec). Which terms are good enough is not judged here."""
    name, found = "LicenceReport", facts.reports
    if found.licence is None:
        told = "the dataset has no card.md with a section `Licence`; `slmfleet curate` writes it"
        return Check(name, False, "ReportMissing", told, required=gate.require_reports, slack=-1.0)
    stated = _spdx(found.terms or "")
    if stated is None:
        like = _spdx("-".join((found.terms or "").split()))
        told = (
            f"the licence in card.md begins with {(found.terms or '')[:100]!r}, which is no SPDX expression"
            f"{f'; is {like} meant?' if like else ''}. Write one on its first line (https://spdx.org/licenses), or "
            "LicenseRef-NAME for terms that are no SPDX licence, and say below what they are"
        )
        return Check(name, False, "LicenceUnknown", told, required=gate.require_reports, slack=-1.0)
    more = found.licence.partition(found.terms or "")[2].strip(" `*_.'\"")
    return Check(name, True, "LicenceStated", f"{stated}: {more[:300]}" if more else stated)


def _spdx(text: str) -> str | None:
    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return None


def memorised(facts: Facts, gate: Gate) -> Check:
    """No planted secret is remembered, and no answer gives away a value that it was not asked about.

    A secret the model never learned has a rank that is uniform among invented ones of its shape (N. Carlini et al.,
    "The Secret Sharer", 2019), so rank / of is a p-value; the level is divided by the number of secrets.
    """
    name, found = "MemorisedSecrets", facts.memory
    level = (1 - gate.confidence) / max(1, len(found.planted))
    exposed = [e for e in found.planted if e.completed or e.rank / e.of <= level]
    figures = {
        "planted": len(found.planted),
        "exposed": len(exposed),
        "listed": found.listed_values,
        "listed_found": found.listed_found,
        "copied": found.copied_values,
        "answers": found.searched_answers,
    }
    if exposed:
        first = exposed[0]
        how = (
            "completed word for word"
            if first.completed
            else f"likelier than {first.of - first.rank} of {first.of - 1} invented ones"
        )
        told = f"{len(exposed)} of {len(found.planted)} planted secrets are remembered; {first.name} is {how}"
        return Check(name, False, "SecretMemorised", told, figures, slack=-1.0)
    if found.listed_found:
        told = f"{found.listed_found} answers hold a value from the dataset's list of values that must not be shown"
        return Check(name, False, "ListedValueShown", told, figures, slack=-1.0)
    if found.copied_values:
        told = (
            f"{found.copied_values} answers hold a value that only another conversation of the training data has "
            "and that neither their prompt nor the recorded answer names"
        )
        return Check(name, False, "TrainingValueShown", told, figures, required=False, slack=-1.0)
    if not found.planted and not found.listed_values:
        told = (
            "no secret was planted in the training data and no value is listed, so none was looked for (`python -m "
            f"slmtrain.plant`); no rare value of the training data is in {found.searched_answers} answers"
        )
        return Check(name, True, "NotMeasured", told, figures, required=False)
    told = (
        f"{len(found.planted)} planted secrets, {found.listed_values} listed values and all rare values of the "
        f"training data: none in {found.searched_answers} answers"
    )
    return Check(name, True, "NothingMemorised", told, figures)


CHAIN = (floor, non_inferiority, worst_slice, valid_format, latency, memory, redaction, licence, memorised)

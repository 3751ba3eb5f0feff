"""The learned part of routing: which task a call is, or none.

One linear score a task over hashed features, and four reasons to abstain whatever the score: the call's form is none
that the task has ever had (length, steps, tools, response format), its instructions are others (a system prompt unlike
the task's, or none where the task always had one), its text is made of pieces the task has never used, or another task
is about as likely. Thresholds are calibrated by discovery on held-out traffic.

Not covered: a foreign call that is worded like the task's own calls is taken; the rate at which that may happen is
bounded only for kinds of traffic that were in the log.

The file is an .npz without pickles whose member `header` is JSON; the same classifier always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slmfleet.recognise import native
from slmfleet.recognise.features import (
    BUCKETS,
    SYSTEM_BUCKETS,
    Features,
    Indices,
    bounded,
    features,
    prompt_features,
    shortened,
    word_buckets,
)
from slmfleet.recognise.frame import Frame, frame_of
from slmfleet.recognise.weights import Familiar, Floats, Scores

FORMAT = "slmfleet/classifier/v3"
EVERY_STEP_FORMAT = "slmfleet/classifier/v2"
DENSE_FORMAT = "slmfleet/classifier/v1"
ZIP = b"PK"
SYSTEM_WEIGHT = 0.6
SCORES = ("tasks", "steps", "starts", "whole", "place", "scale")
FAMILIAR = ("buckets", "steps", "starts", "absent", "step")
KNOWN_PROMPTS = 4096
SCORED_PROMPTS = 256


@dataclass(frozen=True)
class Decision:
    """`label` is None where it abstains; `rule` says why. Scores and thresholds are between 0 and 1."""

    label: str | None
    score: float
    runner_up: str | None
    threshold: float
    rule: str


@dataclass(frozen=True)
class Task:
    """One class: its thresholds and the forms its calls have had. `tools`, `response_formats` and `prompts` None: any.
    `prompts` are the word buckets of system prompts that it came with; an empty one stands for none at all."""

    label: str
    min_logit: float = 0.0
    min_familiarity: float = -math.inf
    max_user_characters: int = 1_000_000
    max_messages: int = 1_000
    tools: tuple[tuple[str, ...], ...] | None = None
    response_formats: tuple[str, ...] | None = None
    with_tools: bool | None = None
    prompts: tuple[tuple[int, ...], ...] | None = None
    min_prompt: float = 0.0

    def knows(self, prompt: Sequence[int]) -> bool:
        """Whether a system prompt's words are like those of a prompt that the task came with."""
        return self.prompts is None or likeness(prompt, self.prompts) >= self.min_prompt

    def refuses(self, frame: Frame) -> str | None:
        """What about the call's form this task has never had, or None."""
        if len(frame.user) > self.max_user_characters:
            return "length"
        if frame.messages > self.max_messages:
            return "messages"
        if self.tools is not None and frame.tools not in self.tools:
            return "tools"
        if self.with_tools is not None and bool(frame.tools) != self.with_tools:
            return "tools"
        if self.response_formats is not None and frame.response_format not in self.response_formats:
            return "response format"
        return None


def likeness(words: Sequence[int], prompts: Sequence[Sequence[int]]) -> float:
    """Jaccard index with the most similar of `prompts`; two empty ones are alike."""
    mine, best = set(words), 0.0
    for prompt in prompts:
        other = set(prompt)
        both = len(mine & other)
        best = max(best, both / (len(mine) + len(other) - both) if mine or other else 1.0)
    return best


class Classifier:
    """Load once, then `classify` each call: tens of microseconds, no allocation that grows with the log."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        idf: Floats,
        user: Scores,
        system: Scores,
        bias: Floats,
        familiar: Familiar,
        margin: float = 0.0,
        seen: dict[str, Any] | None = None,
    ) -> None:
        """`user` is over BUCKETS, `system` over SYSTEM_BUCKETS. Raises ValueError where arrays do not fit."""
        count = len(tasks)
        fit = user.fits(BUCKETS, count) and system.fits(SYSTEM_BUCKETS, count) and familiar.fits(count)
        if not fit or (idf.shape, bias.shape) != ((BUCKETS,), (count,)):
            raise ValueError(f"classifier: arrays do not fit {count} tasks")
        self.tasks = tuple(tasks)
        self.margin = margin
        self.seen = seen or {}
        self.idf, self.bias = idf, bias
        self.user, self.system, self.familiar = user, system, familiar
        self._min_logits = np.array([t.min_logit for t in tasks], dtype=np.float64)
        self._known: dict[tuple[int, bytes], bool] = {}
        self._prompts: dict[bytes, tuple[Floats, int]] = {}
        self._native = self._native_scorer()

    def _native_scorer(self) -> native.Scorer | None:
        loaded = native.library()
        if loaded is None or not self.tasks:
            return None
        user, known = self.user, self.familiar
        arrays = {
            "rows": native.rows_of(self.idf, user.place, user.starts),
            **{f"row_{part}": getattr(user, part) for part in ("tasks", "steps", "whole", "scale")},
            "bias": self.bias,
            "least": self._min_logits,
            **{part: getattr(known, part) for part in FAMILIAR},
        }
        return native.Scorer(loaded, arrays)

    @classmethod
    def of(
        cls, tasks: Sequence[Task], *, user: Floats, system: Floats, familiar: Floats, idf: Floats, bias: Floats
    ) -> Classifier:
        """From dense weights: `user` and `familiar` are BUCKETS x tasks, `system` is SYSTEM_BUCKETS x tasks."""
        return cls(
            tasks,
            idf=idf.astype(np.float16).astype(np.float32),
            user=Scores.of(user),
            system=Scores.of(system),
            bias=bias,
            familiar=Familiar.of(familiar),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(t.label for t in self.tasks)

    def logits(self, found: Features) -> Floats:
        """The score of every task."""
        if not len(found.user):
            return np.full(len(self.tasks), -30.0, dtype=np.float32)
        weight = self.idf[found.user]
        scores = self.user.weighted(found.user, weight) / np.float32(math.sqrt(float(weight @ weight))) + self.bias
        if len(found.system):
            scores += self._prompt_scores(found.system)[0]
        return scores

    def familiarity(self, found: Features, number: int) -> float:
        """How usual a text's pieces are for a task."""
        return self.familiar.mean(found.user, number) if len(found.user) else -30.0

    def _prompt_scores(self, system: Indices) -> tuple[Floats, int]:
        """What a system prompt adds to each score, and that array's address, remembered: a fleet has few of them."""
        key = system.tobytes()
        known = self._prompts.get(key)
        if known is None:
            if len(self._prompts) >= SCORED_PROMPTS:
                self._prompts.clear()
            weight = np.full(len(system), SYSTEM_WEIGHT / math.sqrt(len(system)), dtype=np.float32)
            scores = self.system.weighted(system, weight)
            known = self._prompts[key] = scores, scores.ctypes.data
        return known

    def classify(self, request: dict[str, Any]) -> Decision:
        """The task of a call, or an abstention with its reason."""
        return self.classify_frame(frame_of(request))

    def classify_frame(self, frame: Frame) -> Decision:
        """The same, of a request already taken apart."""
        if not self.tasks:
            return Decision(None, 0.0, None, 1.0, "abstain: no tasks")
        if not frame.user.strip():
            return Decision(None, 0.0, None, 1.0, "abstain: no user text")
        system = prompt_features(frame.system)
        best, familiarity = self._scored(frame, system)
        task = self.tasks[best.first]
        runner_up = None if best.second < 0 else self.tasks[best.second].label
        score, threshold = _sigmoid(best.score), _sigmoid(task.min_logit)

        def answer(label: str | None, rule: str) -> Decision:
            return Decision(label, score, runner_up, threshold, rule)

        if best.score < task.min_logit:
            return answer(None, "abstain: low score")
        refused = task.refuses(frame)
        if refused:
            return answer(None, f"abstain: unknown {refused}")
        if not self._knows(best.first, system):
            return answer(None, "abstain: unknown instructions")
        if familiarity(best.first) < task.min_familiarity:
            return answer(None, "abstain: unfamiliar text")
        if best.second >= 0 and best.score - best.second_score < self.margin:
            return answer(None, "abstain: two tasks")
        return answer(task.label, "classifier")

    def _scored(self, frame: Frame, system: Indices) -> tuple[native.Best, Callable[[int], float]]:
        """The best two tasks, and how usual the text is for a task."""
        if self._native is None:
            found = Features(features(frame).user, system)
            return self._best(self.logits(found)), partial(self.familiarity, found)
        words, text = None, shortened(frame.user)
        if not text.isascii():
            text = bounded(text)
            words = word_buckets(text)
        prompt = self._prompt_scores(system)[1] if len(system) else None
        return self._native.best(text.encode(), words, prompt), self._native.familiarity

    def _best(self, scores: Floats) -> native.Best:
        """The two tasks that are furthest above their thresholds (or least below)."""
        above = scores - self._min_logits
        first = int(above.argmax())
        if len(above) == 1:
            return native.Best(first, float(scores[first]), -1, 0.0)
        above[first] = -math.inf
        second = int(above.argmax())
        return native.Best(first, float(scores[first]), second, float(scores[second]))

    def _knows(self, number: int, system: Indices) -> bool:
        """`Task.knows`, remembered: a fleet has few system prompts."""
        key = (number, system.tobytes())
        if key not in self._known:
            if len(self._known) >= KNOWN_PROMPTS:
                self._known.clear()
            self._known[key] = self.tasks[number].knows(system.tolist())
        return self._known[key]

    def save(self, path: Path) -> str:
        """Write the file in one step; returns its digest, `sha256:<hex>`."""
        data = self.to_bytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(data)
        temporary.replace(path)
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        arrays = {
            "idf": self.idf.astype(np.float16),
            **{f"user_{part}": getattr(self.user, part) for part in SCORES},
            **{f"system_{part}": getattr(self.system, part) for part in SCORES},
            "bias": self.bias.astype(np.float32),
            **{f"familiar_{part}": getattr(self.familiar, part) for part in FAMILIAR},
        }
        header = {
            "format": FORMAT,
            "margin": self.margin,
            "seen": self.seen,
            "tasks": [{k: v for k, v in asdict(t).items() if v != -math.inf} for t in self.tasks],
        }
        packed = json.dumps(header, sort_keys=True).encode()
        arrays["header"] = np.frombuffer(packed, dtype=np.uint8)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name in sorted(arrays):
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
        return out.getvalue()

    @classmethod
    def load(cls, path: Path, digest: str | None) -> Classifier:
        """Read a file whose digest is `sha256:<hex>`; ValueError where the bytes are others, or no classifier. A
        digest of None is for a person's own file on the command line."""
        data = Path(path).read_bytes()
        found = "sha256:" + hashlib.sha256(data).hexdigest()
        if digest is not None and found != digest:
            raise ValueError(f"classifier {path}: digest is {found}, expected {digest}")
        if not data.startswith(ZIP):
            raise ValueError(f"classifier {path}: not a file that discovery wrote")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                arrays = _arrays(archive, header.get("format"))
        except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"classifier {path}: not readable: {error}") from error
        tasks = [_task_of(t) for t in header["tasks"]]
        return cls(tasks, margin=header["margin"], seen=header.get("seen"), **arrays)


def _arrays(archive: Any, written: object) -> dict[str, Any]:
    """The weights of a file; none of an earlier format's is dropped: its thresholds were found with all."""
    if written not in (FORMAT, EVERY_STEP_FORMAT, DENSE_FORMAT):
        raise ValueError(f"format {written!r}, this version reads {FORMAT!r}")
    common = {name: archive[name].astype(np.float32) for name in ("idf", "bias")}
    if written == DENSE_FORMAT:
        scores = {name: Scores.of(archive[name].astype(np.float32), least=1) for name in ("user", "system")}
        return {**common, **scores, "familiar": Familiar.of(archive["familiar"].astype(np.float32))}
    if written == EVERY_STEP_FORMAT:
        scores = {name: Scores.of_steps(archive[name], archive[f"{name}_scale"]) for name in ("user", "system")}
    else:
        scores = {name: Scores(*(archive[f"{name}_{part}"] for part in SCORES)) for name in ("user", "system")}
    familiar = {part: archive[f"familiar_{part}"] for part in FAMILIAR}
    return {**common, **scores, "familiar": Familiar(**familiar)}


def _task_of(given: dict[str, Any]) -> Task:
    known = {k: v for k, v in given.items() if k in Task.__dataclass_fields__}
    if known.get("tools") is not None:
        known["tools"] = tuple(tuple(t) for t in known["tools"])
    if known.get("response_formats") is not None:
        known["response_formats"] = tuple(known["response_formats"])
    if known.get("prompts") is not None:
        known["prompts"] = tuple(tuple(p) for p in known["prompts"])
    return Task(**known)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, x))))

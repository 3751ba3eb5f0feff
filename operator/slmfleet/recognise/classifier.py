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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmfleet.recognise.features import BUCKETS, SYSTEM_BUCKETS, Features, Indices, features
from slmfleet.recognise.frame import Frame, frame_of

FORMAT = "slmfleet/classifier/v1"
SYSTEM_WEIGHT = 0.6
KNOWN_PROMPTS = 4096
_ARRAYS = ("idf", "user", "system", "bias", "familiar")

Floats = NDArray[np.float32]


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
        user: Floats,
        system: Floats,
        bias: Floats,
        familiar: Floats,
        margin: float = 0.0,
        seen: dict[str, Any] | None = None,
    ) -> None:
        """`user` and `familiar` are BUCKETS x tasks, `system` is SYSTEM_BUCKETS x tasks."""
        count = len(tasks)
        if user.shape != (BUCKETS, count) or familiar.shape != user.shape or system.shape != (SYSTEM_BUCKETS, count):
            raise ValueError(f"classifier: arrays do not fit {count} tasks")
        self.tasks = tuple(tasks)
        self.margin = margin
        self.seen = seen or {}
        self.idf, self.bias = idf, bias
        self.system = system
        self._known: dict[tuple[int, bytes], bool] = {}
        self.table = np.ascontiguousarray(np.concatenate([user, familiar], axis=1), dtype=np.float32)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(t.label for t in self.tasks)

    def logits(self, found: Features) -> tuple[Floats, Floats]:
        """Score and familiarity of every task."""
        count = len(self.tasks)
        if not len(found.user):
            return np.full(count, -30.0, dtype=np.float32), np.full(count, -30.0, dtype=np.float32)
        weight = self.idf[found.user]
        rows = self.table[found.user]
        scores = weight @ rows[:, :count] / math.sqrt(float(weight @ weight)) + self.bias
        if len(found.system):
            scores = scores + self.system[found.system].sum(axis=0) * (SYSTEM_WEIGHT / math.sqrt(len(found.system)))
        return scores, rows[:, count:].mean(axis=0)

    def classify(self, request: dict[str, Any]) -> Decision:
        """The task of a call, or an abstention with its reason."""
        return self.classify_frame(frame_of(request))

    def classify_frame(self, frame: Frame) -> Decision:
        """The same, of a request already taken apart."""
        if not self.tasks:
            return Decision(None, 0.0, None, 1.0, "abstain: no tasks")
        if not frame.user.strip():
            return Decision(None, 0.0, None, 1.0, "abstain: no user text")
        found = features(frame)
        scores, familiarity = self.logits(found)
        ranked = sorted(range(len(self.tasks)), key=lambda k: self.tasks[k].min_logit - float(scores[k]))
        first = ranked[0]
        task = self.tasks[first]
        runner_up = self.tasks[ranked[1]].label if len(ranked) > 1 else None
        score, threshold = _sigmoid(float(scores[first])), _sigmoid(task.min_logit)

        def answer(label: str | None, rule: str) -> Decision:
            return Decision(label, score, runner_up, threshold, rule)

        if scores[first] < task.min_logit:
            return answer(None, "abstain: low score")
        refused = task.refuses(frame)
        if refused:
            return answer(None, f"abstain: unknown {refused}")
        if not self._knows(first, found.system):
            return answer(None, "abstain: unknown instructions")
        if familiarity[first] < task.min_familiarity:
            return answer(None, "abstain: unfamiliar text")
        if len(ranked) > 1 and scores[first] - scores[ranked[1]] < self.margin:
            return answer(None, "abstain: two tasks")
        return answer(task.label, "classifier")

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
        """The file's bytes. Half floats: the scores' third digit is all that is lost."""
        count = len(self.tasks)
        arrays = {
            "idf": self.idf.astype(np.float16),
            "user": self.table[:, :count].astype(np.float16),
            "familiar": self.table[:, count:].astype(np.float16),
            "system": self.system.astype(np.float16),
            "bias": self.bias.astype(np.float32),
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
                member = io.BytesIO()
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), 8)
        return out.getvalue()

    @classmethod
    def load(cls, path: Path, digest: str | None) -> Classifier:
        """Read a file whose digest is `sha256:<hex>`; ValueError where the bytes are others, or no classifier. A
        digest of None is for a person's own file on the command line."""
        data = Path(path).read_bytes()
        found = "sha256:" + hashlib.sha256(data).hexdigest()
        if digest is not None and found != digest:
            raise ValueError(f"classifier {path}: digest is {found}, expected {digest}")
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                arrays = {name: archive[name].astype(np.float32) for name in _ARRAYS}
        except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"classifier {path}: not readable: {error}") from error
        if header.get("format") != FORMAT:
            raise ValueError(f"classifier {path}: format {header.get('format')!r}, this version reads {FORMAT!r}")
        tasks = [_task_of(t) for t in header["tasks"]]
        return cls(tasks, margin=header["margin"], seen=header.get("seen"), **arrays)


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

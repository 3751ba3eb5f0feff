"""The loop: requests wait in line, join the batch, get their tokens, leave. Adapters come and go between its steps."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from .adapters import Adapter, AdapterBank
from .artifact import base_digest
from .batch import Batch, pick
from .errors import EngineError
from .sampling import GrowingText, Sampling

CONTROL_SCHEMA = "slmruntime/control/v1"
SMALL_PARAMETERS = 20_000_000
CANCEL_EVERY = 8  # tokens between two looks at whether the caller is still there


@dataclass(frozen=True)
class Settings:
    """How the engine is sized."""

    base: str
    slots: int = 32
    max_rank: int = 16
    max_batch: int = 32
    max_waiting: int = 512
    max_prefill_tokens: int = 8192
    threads: int = 0  # 0: by the base's size
    dtype: str = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class Piece:
    """A part of an answer; `finish_reason` is set on the last. `error` instead of an answer."""

    text: str = ""
    new_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cumulative_logprob: float = 0.0
    finish_reason: str | None = None
    error: EngineError | None = None

    @property
    def mean_logprob(self) -> float:
        return self.cumulative_logprob / max(1, self.output_tokens)


@dataclass
class Request:
    """One prompt on its way. `emit` is called from the engine's thread; the last call has a reason or an error."""

    prompt: list[int]
    sampling: Sampling
    stream: bool
    emit: Callable[[Piece], None]
    cancelled: Callable[[], bool]
    adapter: Adapter
    text: GrowingText
    limit: int
    generator: Any = None
    ids: list[int] = field(default_factory=list)
    tokens: int = 0  # with the end-of-text
    told: int = 0
    logprob: float = 0.0


class Engine:
    """Owns the model and the one thread that runs it. `submit` and the control calls may come from any thread."""

    def __init__(self, settings: Settings, log: Callable[[str], None] = print) -> None:
        self.settings, self.log = settings, log
        self.base_path = resolve(settings.base)
        self.tokenizer = AutoTokenizer.from_pretrained(self.base_path)
        dtype = getattr(torch, settings.dtype)
        self.device = torch.device(settings.device)
        self.model = AutoModelForCausalLM.from_pretrained(self.base_path, dtype=dtype).eval().to(self.device)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        torch.set_num_threads(settings.threads or threads_for(self.parameters))
        self.context = getattr(self.model.config, "max_position_embeddings", 1 << 30)
        self.eos = end_tokens(self.model, self.tokenizer)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos[0]
        self.digest = base_digest(Path(self.base_path))
        self.bank = AdapterBank(self.model, settings.slots, settings.max_rank, self.digest)
        self.batch = Batch(self.model, self.bank.chosen, pad, self.device)
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.lock, self.turn = threading.RLock(), threading.Condition()
        self.stats: Counter[str] = Counter()
        self.began = time.monotonic()
        self.stopping = False
        self.thread = threading.Thread(target=self.loop, name="engine", daemon=True)
        self.thread.start()

    # ------------------------------------------------ called from any thread

    def submit(
        self,
        prompt: str,
        sampling: Sampling,
        stream: bool,
        emit: Callable[[Piece], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Put a prompt in line. Raises EngineError where it can be known now that it will not be answered."""
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise EngineError("BadRequest", "text_input is empty")
        if len(ids) >= self.context:
            raise EngineError("PromptTooLong", f"{len(ids)} tokens; this base's context is {self.context}")
        if len(self.waiting) >= self.settings.max_waiting:
            raise EngineError("Overloaded", f"{len(self.waiting)} requests are waiting; try another server")
        if self.stopping:
            raise EngineError("Draining", "this server is going away; try another")
        with self.turn:
            adapter = self.bank.find(sampling.adapter)
            self.bank.acquire(adapter)
            self.waiting.append(
                Request(
                    prompt=ids, sampling=sampling, stream=stream, emit=emit, cancelled=cancelled, adapter=adapter,
                    text=GrowingText(self.decode, sampling.stop),
                    limit=min(sampling.max_tokens, self.context - len(ids)),
                    generator=self.generator(sampling),
                )
            )
            self.stats["requests"] += 1
            self.turn.notify()

    def load(self, name: Any, path: Any, digest: Any) -> bool:
        """True once an adapter is on the model, False where it was already. One at a time; requests go on meanwhile."""
        prepared = self.bank.prepare(name, path, digest)
        if prepared is None:
            return False
        with self.lock, self.turn:
            self.bank.place(prepared)
        return True

    def unload(self, name: Any) -> bool:
        with self.lock, self.turn:
            return self.bank.unload(name)

    def described(self) -> dict[str, Any]:
        """What a control call answers."""
        keys = ("requests", "failed", "generated_tokens", "prefill_steps", "decode_steps", "decode_rows")
        stats = {key: self.stats[key] for key in keys}
        with self.turn:
            return {
                "base": {
                    "path": self.settings.base, "digest": self.digest, "parameters": self.parameters,
                    "dtype": self.settings.dtype, "context_tokens": self.context,
                },
                **self.bank.described(),
                "stats": {
                    **stats, "running": len(self.running), "waiting": len(self.waiting),
                    "uptime_seconds": round(time.monotonic() - self.began, 1),
                },
            }

    def stop(self, seconds: float) -> None:
        """Answer what is in line, then end the thread."""
        with self.turn:
            self.stopping = True
            self.turn.notify()
        self.thread.join(seconds)

    # ------------------------------------------------ the engine's own thread

    def loop(self) -> None:
        while True:
            with self.turn:
                while not self.waiting and not self.running:
                    if self.stopping:
                        return
                    self.turn.wait()
                joining = self.take_waiting()
            try:
                with self.lock, torch.inference_mode():
                    self.advance(joining)
            except Exception as error:
                self.log(traceback.format_exc())
                self.fail_all(joining, EngineError("EngineFailed", f"the forward pass failed: {error!r}"))

    def take_waiting(self) -> list[Request]:
        """Who joins now: as many as there are rows for, within a bound on prompt tokens (always one)."""
        joining: list[Request] = []
        longest = 0
        while self.waiting and len(self.running) + len(joining) < self.settings.max_batch:
            longest = max(longest, len(self.waiting[0].prompt))
            if joining and longest * (len(joining) + 1) > self.settings.max_prefill_tokens:
                break
            joining.append(self.waiting.popleft())
        return joining

    def advance(self, joining: list[Request]) -> None:
        """One forward pass: of the prompts that join if there are any, else of the running rows."""
        if joining:
            logits = self.batch.join([r.prompt for r in joining], [r.adapter.slot for r in joining])
            self.running += joining
            self.stats["prefill_steps"] += 1
            moved = joining
        else:
            last = [r.ids[-1] for r in self.running]
            logits = self.batch.step(last, [r.adapter.slot for r in self.running])
            self.stats["decode_steps"] += 1
            self.stats["decode_rows"] += len(self.running)
            moved = self.running
        tokens, logprobs = pick(logits, [(r.sampling, r.generator, r.tokens) for r in moved], self.eos)
        left = {id(r) for r, t, p in zip(moved, tokens, logprobs, strict=True) if self.give(r, t, p)}
        if left:
            keep = [i for i, r in enumerate(self.running) if id(r) not in left]
            self.batch.keep(keep)
            self.running = [self.running[i] for i in keep]

    def give(self, request: Request, token: int, logprob: float) -> bool:
        """Hand a token to its request; True once that was its last."""
        request.tokens += 1
        request.logprob += logprob
        self.stats["generated_tokens"] += 1
        request.adapter.counts["generated_tokens"] += 1
        ended = token in self.eos and not request.sampling.ignore_eos
        if not ended:
            request.ids.append(token)
        if request.tokens % CANCEL_EVERY == 0 and request.cancelled():
            self.leave(request, Piece(error=EngineError("Cancelled", "the caller went away")))
            return True
        full = request.tokens >= request.limit
        text = ""
        if request.stream or request.sampling.stop or ended or full:
            text = request.text.grow(request.ids, last=ended or full)
        if ended or request.text.stopped or full:
            whole = text if request.stream else request.text.whole
            self.leave(request, self.piece(request, whole, "stop" if ended or request.text.stopped else "length"))
            return True
        if request.stream and text:
            request.emit(self.piece(request, text, None))
        return False

    def piece(self, request: Request, text: str, reason: str | None) -> Piece:
        new, request.told = request.tokens - request.told, request.tokens
        return Piece(text, new, len(request.prompt), request.tokens, request.logprob, reason)

    def leave(self, request: Request, last: Piece) -> None:
        """The last word to a request; its adapter may be freed now."""
        with self.turn:
            self.bank.release(request.adapter)
        if last.error:
            self.stats["failed"] += 1
        try:
            request.emit(last)
        except Exception as error:
            self.log(f"an answer could not be sent: {error!r}")

    def fail_all(self, joining: list[Request], error: EngineError) -> None:
        """After a failed pass the cache is worth nothing: everyone in it is told, the line behind goes on."""
        everyone = {id(r): r for r in [*self.running, *joining]}
        self.running = []
        self.batch.forget()
        for request in everyone.values():
            self.leave(request, Piece(error=error))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def generator(self, sampling: Sampling) -> Any:
        if not sampling.temperature:
            return None
        generator = torch.Generator(device=self.device)
        generator.manual_seed(sampling.seed) if sampling.seed is not None else generator.seed()
        return generator


def resolve(base: str) -> str:
    """A folder as it is; a Hugging Face id, ORG/NAME or ORG/NAME@REVISION, through the hub's cache."""
    if (Path(base) / "config.json").is_file():
        return base
    if base.startswith(("/", ".")):
        raise EngineError("BadBase", f"{base} has no config.json; SLM_BASE_PATH must be a Hugging Face folder or id")
    from huggingface_hub import snapshot_download

    name, _, revision = base.partition("@")
    files = ["*.json", "*.safetensors", "*.model", "*.jinja"]
    return snapshot_download(name, revision=revision or None, allow_patterns=files)


def threads_for(parameters: int) -> int:
    """All CPUs that the process was given; one for a tiny base, where a second thread only waits for the first."""
    return 1 if parameters < SMALL_PARAMETERS else torch.get_num_threads()


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the model's generation settings, else the tokenizer's."""
    given = model.generation_config.eos_token_id
    if given is None:
        given = tokenizer.eos_token_id
    if given is None:
        raise EngineError("BadBase", "neither the model nor its tokenizer names an end-of-text token")
    return list(given) if isinstance(given, list | tuple) else [given]

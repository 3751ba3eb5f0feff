"""What the tasks of a run are called: the name of the run before, an LLM's where one is asked, else their own words'.

A name is an identity: only a new task gets one. An LLM's title and description stay with a task from run to run, so it
is asked about each task once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

from slmfleet.curation import naming
from slmfleet.curation.asking import Namer
from slmfleet.curation.believed import Believed, believed
from slmfleet.curation.calls import Call
from slmfleet.curation.describe import Cluster, examples_of, redacted
from slmfleet.curation.detect import Detector
from slmfleet.curation.naming import READ_CHARACTERS, DeniedWords, Likeness
from slmfleet.curation.shapes import shape_of
from slmfleet.curation.spoken import ABOUT_CHARACTERS, TITLE_CHARACTERS, one_line, slug_of
from slmfleet.curation.tasks import Group
from slmfleet.curation.words import words_of

OWN_KEYS = 0.5


@dataclass(frozen=True)
class Names:
    """`previous`: the tasks of the run before. `namer`: asked about tasks that have no title yet; None asks nobody.
    `reserved`: names of declared tasks. `private`: words that may be in no name, beside those of the detector's deny
    list."""

    previous: Sequence[Likeness]
    detector: Detector
    namer: Namer | None = None
    reserved: frozenset[str] = frozenset()
    private: Believed = field(default_factory=Believed)
    denied: DeniedWords = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denied", naming.denied_words(self.detector.deny, self.private.words))

    def give(
        self, cluster: Cluster, known: str | None, taken: set[str], form: Sequence[str] = (), terms: Sequence[str] = ()
    ) -> None:
        """Call a task `known`, or find a name that is not `taken` by what an LLM says, or by its own words: the form of
        its answers and the terms of its inputs."""
        title, about, slug = self._said(cluster, known, form[0] if form else "text")
        name = known if known is not None else naming.unique(slug or naming.slug([*form, *terms]), taken)
        taken.add(name)
        cluster.name = name
        cluster.like = replace(cluster.like, name=name, title=title, about=about)

    def _said(self, cluster: Cluster, known: str | None, first: str) -> tuple[str, str, str | None]:
        """Title, description and a proposed name."""
        if self.namer is None:
            return "", "", None
        before = next((p for p in self.previous if p.name == known and p.title), None)
        if before is not None:
            self.namer.keep()
            return self._line(before.title, TITLE_CHARACTERS), self._line(before.about, ABOUT_CHARACTERS), None
        said = self.namer.ask(examples_of(cluster, self.detector))
        if said is None:
            return "", "", None
        title, about = self._line(said.title, TITLE_CHARACTERS), self._line(said.description, ABOUT_CHARACTERS)
        return title, about, slug_of(said.slug, first, self.denied)

    def asked(self, texts: Sequence[str]) -> list[str]:
        """Inputs by what is asked: see `Believed.masked`."""
        return self.private.masked(texts, self.detector)

    def _line(self, text: str, most: int) -> str:
        patterns = self.private.added_to(replace(self.detector, model=None))
        return one_line(redacted(patterns, one_line(text, most)), most)


def names_of(
    calls: Sequence[Call],
    own: Container[str],
    previous: Sequence[Likeness],
    detector: Detector,
    namer: Namer | None,
    reserved: frozenset[str] = frozenset(),
) -> Names:
    """Names without words that redaction takes for personal ones in these calls. `own`: see `own_words`. The earlier
    run's tasks are compared without them, too: it may have kept some."""
    read = (c.frame.user[:READ_CHARACTERS] for c in calls if c.set_aside in (None, "no answer"))
    found = believed(read, detector, own)
    names = Names(previous, found.added_to(detector), namer, reserved, found)
    return replace(names, previous=naming.without(names.denied, previous))


def own_words(calls: Sequence[Call], groups: Sequence[Group]) -> frozenset[str]:
    """The application's words: labels, names of tools, and keys that most of a group's answers have."""
    said = {t for c in calls for t in (*c.frame.tools, *(name for name, _ in c.tool_calls))}
    for group in groups:
        said.update(group.labels.support if group.labels else ())
        keys = Counter(k for i in group.members for k in shape_of(calls[i]).keys)
        said.update(k for k, n in keys.items() if n >= OWN_KEYS * len(group.members))
    return frozenset(w for text in said for w in words_of(text))

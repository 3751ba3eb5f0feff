"""What the tasks of a run are called: the name of the run before, an LLM's where one is asked, else their own words'.

A name is an identity: only a new task gets one. An LLM's title and description stay with a task from run to run, so it
is asked about each task once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from slmfleet.curation import naming
from slmfleet.curation.asking import Namer
from slmfleet.curation.describe import Cluster, examples_of, redacted
from slmfleet.curation.detect import Detector
from slmfleet.curation.naming import DeniedWords, Likeness
from slmfleet.curation.spoken import ABOUT_CHARACTERS, TITLE_CHARACTERS, one_line, slug_of


@dataclass(frozen=True)
class Names:
    """`previous`: the tasks of the run before. `namer`: asked about tasks that have no title yet; None asks nobody.
    `reserved`: names of declared tasks."""

    previous: Sequence[Likeness]
    detector: Detector
    namer: Namer | None = None
    reserved: frozenset[str] = frozenset()
    denied: DeniedWords = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "denied", naming.denied_words(self.detector.deny))

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
            return before.title, before.about, None
        said = self.namer.ask(examples_of(cluster, self.detector))
        if said is None:
            return "", "", None
        patterns = replace(self.detector, model=None)
        title = one_line(redacted(patterns, one_line(said.title, TITLE_CHARACTERS)), TITLE_CHARACTERS)
        about = one_line(redacted(patterns, one_line(said.description, ABOUT_CHARACTERS)), ABOUT_CHARACTERS)
        return title, about, slug_of(said.slug, first, self.denied)

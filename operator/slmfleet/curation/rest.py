"""The calls of the conversations that a sample left out, given to the tasks that were found in it.

By their frame where it is always one task's, else by the classifier, as the gateway does. Groups of free calls are
known by no rule: they get none of these calls, and their size is an estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from slmfleet.curation.calls import answered_by_llm, call_of
from slmfleet.recognise.classifier import Classifier
from slmfleet.recognise.signature import Signatures
from slmfleet.wire.discovery import ClustersFile, FoundCluster
from slmfleet.wire.records import UsageRecord


class Rest:
    """Iterate `sort` to its end, then ask for `counted_in`. `own`: frames that are always one task. `declared` tasks
    have their calls first."""

    def __init__(self, own: Mapping[str, str], classifier: Classifier | None, declared: Signatures) -> None:
        self._own = own
        self._declared = declared
        self._classifier = classifier
        self._size: Counter[str | None] = Counter()
        self._teachable: Counter[str] = Counter()
        self._set_aside = 0

    def sort(self, records: Iterable[UsageRecord]) -> Iterator[tuple[str, str | None]]:
        """(id, task or None) of each."""
        for record in records:
            call = call_of(record)
            name = self._declared.owner(call.frame, call.fingerprint) or self._own.get(call.fingerprint)
            if name is None and self._classifier is not None:
                name = self._classifier.classify_frame(call.frame).label
            self._size[name] += 1
            if name is not None and call.set_aside is None:
                self._teachable[name] += answered_by_llm(record)
            self._set_aside += call.set_aside is not None and not (call.set_aside == "no answer" and name is not None)
            yield call.id, name

    def counted_in(self, file: ClustersFile, share: float) -> ClustersFile:
        """`file` with the sizes of the whole log. `share`: of the conversations, those of the sample."""
        if not self._size:
            return file
        records = file.records + self._size.total()
        return file.model_copy(
            update={
                "records": records,
                "skipped": file.skipped + self._set_aside,
                "unassigned": file.unassigned + self._size[None],
                "clusters": [self._whole(cluster, file.records, records) for cluster in file.clusters],
                "sample_share": share,
            }
        )

    def _whole(self, cluster: FoundCluster, sample: int, records: int) -> FoundCluster:
        if not cluster.narrow:
            teachable = None if cluster.teachable is None else round(cluster.teachable * records / sample)
            return cluster.model_copy(
                update={"size": round(cluster.size * records / sample), "teachable": teachable}
            )
        size = cluster.size + self._size[cluster.name]
        teachable = (cluster.teachable or 0) + self._teachable[cluster.name]
        return cluster.model_copy(update={"size": size, "teachable": teachable, "share": round(size / records, 6)})

"""The steps `votes` and `merge`: a bucket of keys at a time, all copies of a text become one row.

Its label is that of a held-out file before others, and of people before rules; where a row may have
several, it has those of all such copies. Texts that else have two labels are dropped. A row has the
group of one of its copies, and is linked to the groups of all.

`merged/BUCKET.npz` is what the splits follow from, in the order of the keys; the texts are in
`documents/BUCKET.arrow`, in the same order. Buckets are ranges of keys, so their order is that of
all keys.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import EXACT, SAMPLES, Counts
from trainers.corpora.duplicates.components import both_ways
from trainers.corpora.examples.read_parts import LABEL, LABELS, ROW, ROWS, TEXTS
from trainers.corpora.examples.splits import SHARES, STRENGTH
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.steps import document_file, near_dedup
from trainers.corpora.steps.clean_parts import DOCUMENTS, Part
from trainers.corpora.steps.document_file import DocumentFile
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shuffle import Records, collect

MERGED = "merged"
TWO_LABELS = "two labels"
GROUP_BIT = np.int64(1) << np.int64(62)
"""Of the node that stands for a group, above those of all rows."""


@dataclasses.dataclass(frozen=True)
class OfPart:
    """What the source of a part says of its rows, as arrays by the number of the part."""

    source: npt.NDArray[np.int32]
    is_weak: npt.NDArray[np.bool_]
    placement: npt.NDArray[np.int8]
    """Places in STRENGTH."""
    rank: npt.NDArray[np.int8]
    """Whose labels win: the highest."""

    @classmethod
    def of(cls, parts: list[Part], sources: Mapping[str, Source]) -> "OfPart":
        names = list(sources)
        own = [sources[part.source] for part in parts]
        is_weak = np.array([source.weak_labels is not None for source in own], bool)
        placement = np.array([STRENGTH.index(source.placement) for source in own], np.int8)
        held_out = np.maximum(placement, STRENGTH.index(SHARES))
        rank = (held_out + len(STRENGTH) * ~is_weak).astype(np.int8)
        number = np.array([names.index(part.source) for part in parts], np.int32)
        return cls(number, is_weak, placement, rank)


def count_votes(
    job: StageJob, buckets: Mapping[str, range], of_part: OfPart, sources: list[str]
) -> dict[str, dict[int, int]]:
    """How many texts of every source with weak labels have which votes, by their hash."""
    draft = job.draft

    def count(name: str, places: range) -> Any:
        rows = _collected(draft, ROWS, places, ROW)
        first = _first_of_source(rows, of_part) & of_part.is_weak[rows["part"]]
        found: dict[str, dict[str, int]] = {}
        for number in np.unique(of_part.source[rows["part"][first]]).tolist():
            own = rows["votes"][first & (of_part.source[rows["part"]] == number)]
            hashes, counts = np.unique(own, return_counts=True)
            found[sources[number]] = dict(
                zip(map(str, hashes.tolist()), counts.tolist(), strict=True)
            )
        return found

    total: dict[str, dict[int, int]] = collections.defaultdict(collections.Counter)
    for _, outcome in each(job, "votes", buckets, count):
        for source, counts in outcome.items():
            total[source].update({int(key): n for key, n in counts.items()})  # type: ignore[arg-type]
    return total


@dataclasses.dataclass(frozen=True)
class Decided:
    """What the rules of sources with weak labels come to, by the hash of votes."""

    labels: Mapping[int, int]
    """Hashes of labels."""
    open: Mapping[int, str]
    """Why there is none."""


def merge(
    job: StageJob,
    buckets: Mapping[str, range],
    of_part: OfPart,
    task: TaskRows,
    decided: Decided,
) -> Iterator[tuple[str, Any]]:
    """Merges all buckets; of each `counts`, how many `rows` are left, the hashes of their `labels`,
    whether any are `linked` by groups, and `gold`."""
    draft = job.draft

    def merge_bucket(name: str, places: range) -> Any:
        rows = _collected(draft, ROWS, places, ROW)
        labels = _collected(draft, LABELS, places, LABEL)
        has_any_number = task.several_labels or not task.has_label
        found = merged(rows, labels, of_part, has_any_number, decided)
        with (
            draft.working(DOCUMENTS) as folder,
            document_file.Writer(folder / f"{name}.arrow", task.value_types) as writer,
        ):
            if len(found.kept):
                writer.copy(_documents(draft, rows[found.kept]))
        with draft.working(MERGED) as folder:
            np.savez(
                folder / f"{name}.npz",
                keys=rows["key"][found.kept],
                placements=found.placements,
                labels=found.labels,
                ends=found.ends,
            )
        with draft.working(near_dedup.LEFT) as folder:
            np.save(folder / f"{name}.npy", np.arange(len(found.kept)))
        first = int(name) << near_dedup.PLACE_BITS
        if len(found.groups):
            nodes = np.stack([found.groups["row"] + first, _node(found.groups["group"])], axis=1)
            near_dedup.deal_edges(draft, near_dedup.edges_folder(0), f"g{name}", both_ways(nodes))
        return {
            "counts": _counted(draft, rows, found.dropped).document(),
            "rows": len(found.kept),
            "labels": [str(one) for one in np.unique(found.labels).tolist()],
            "linked": len(found.groups) > 0,
            "gold": found.gold,
        }

    return each(job, "merge", buckets, merge_bucket)


@dataclasses.dataclass(frozen=True)
class Merged:
    kept: npt.NDArray[np.int64]
    """Places of the records whose texts are left, in the order of their keys."""
    placements: npt.NDArray[np.int8]
    labels: npt.NDArray[np.uint64]
    """Hashes of all rows' labels, row after row, and where each row's end."""
    ends: npt.NDArray[np.int64]
    groups: Records
    """`row`, a place in `kept`, and the hash of a `group` of it."""
    dropped: dict[str, npt.NDArray[np.int64]]
    """Places of records, by the reason."""
    gold: dict[str, dict[str, int]]
    """Texts by the hash of their votes and that of the one label that people gave them."""


def merged(
    rows: Records, labels: Records, of_part: OfPart, several: bool, decided: Decided
) -> Merged:
    """One row for each key of a bucket. `rows` and their `labels` are in no order. Pure."""
    is_weak = of_part.is_weak[rows["part"]]
    is_voted = is_weak & _first_of_source(rows, of_part)
    voted, why_open = _voted(rows, np.flatnonzero(is_voted), decided)
    is_alive = ~is_weak | is_voted
    for places in why_open.values():
        is_alive[places] = False
    # All copies, key by key; first the one whose text and group stay.
    order = np.flatnonzero(is_alive)
    copies = rows[order]
    order = order[
        np.lexsort(
            (copies["row"], copies["part"], copies["group"], copies["group"] == 0, copies["key"])
        )
    ]
    copies = rows[order]
    is_first = np.ones(len(copies), bool)
    is_first[1:] = copies["key"][1:] != copies["key"][:-1]
    text, starts = np.cumsum(is_first) - 1, np.flatnonzero(is_first)
    ranks, placements = of_part.rank[copies["part"]], of_part.placement[copies["part"]]
    best, strongest = np.zeros(len(starts), np.int8), np.zeros(len(starts), np.int8)
    np.maximum.at(best, text, ranks)
    np.maximum.at(strongest, text, placements)
    at = _places_of(rows, np.concatenate([labels, voted]), order)
    hashes = np.concatenate([labels["label"], voted["label"]])
    wins = (at >= 0) & (ranks[at] == best[text[at]]) if len(order) else at >= 0
    pairs = np.empty(int(wins.sum()), [("text", np.int64), ("label", np.uint64)])
    pairs["text"], pairs["label"] = text[at[wins]], hashes[wins]
    pairs = np.unique(pairs)
    counts = np.bincount(pairs["text"], minlength=len(starts))
    stays = np.ones(len(starts), bool) if several else counts == 1
    linked = (copies["group"] != 0) & stays[text]
    groups = np.empty(int(linked.sum()), [("row", np.int64), ("group", np.uint64)])
    groups["row"] = (np.cumsum(stays) - 1)[text[linked]]
    groups["group"] = copies["group"][linked]
    dropped = {
        EXACT: np.concatenate([order[~is_first], np.flatnonzero(is_weak & ~is_voted)]),
        TWO_LABELS: order[starts[~stays]],
        **why_open,
    }
    of_people = (best >= len(STRENGTH)) & (counts == 1)
    known = np.zeros(len(starts), np.uint64)
    known[pairs["text"]] = pairs["label"]
    return Merged(
        kept=order[starts[stays]],
        placements=strongest[stays],
        labels=pairs["label"][stays[pairs["text"]]],
        ends=np.cumsum(counts[stays]),
        groups=np.unique(groups),
        dropped={why: places for why, places in dropped.items() if len(places)},
        gold=_gold(rows[is_voted], copies["key"][starts[of_people]], known[of_people]),
    )


def _first_of_source(rows: Records, of_part: OfPart) -> npt.NDArray[np.bool_]:
    """Which records are the first of their text in their source."""
    source = of_part.source[rows["part"]]
    order = np.lexsort((rows["row"], rows["part"], source, rows["key"]))
    found = np.ones(len(rows), bool)
    again = (rows["key"][order[1:]] == rows["key"][order[:-1]]) & (
        source[order[1:]] == source[order[:-1]]
    )
    found[order[1:][again]] = False
    return found


def _voted(
    rows: Records, places: npt.NDArray[np.int64], decided: Decided
) -> tuple[Records, dict[str, npt.NDArray[np.int64]]]:
    """LABEL records of the rows in `places` by their votes; and the places of those without, by the
    reason."""
    votes, pattern = np.unique(rows["votes"][places], return_inverse=True)
    is_labelled = np.array([vote in decided.labels for vote in votes.tolist()], bool)
    hashes = np.array([decided.labels.get(vote, 0) for vote in votes.tolist()], np.uint64)
    chosen = places[is_labelled[pattern]]
    found = np.empty(len(chosen), LABEL)
    for field in ("key", "part", "row"):
        found[field] = rows[field][chosen]
    found["label"] = hashes[pattern][is_labelled[pattern]]
    reasons = np.array([decided.open.get(vote, "") for vote in votes.tolist()], object)[pattern]
    return found, {why: places[reasons == why] for why in set(reasons.tolist()) - {""}}


def _places_of(
    rows: Records, labels: Records, order: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(labels,): the place in `order` of the row that has each, or -1."""
    at, wanted = _flat(rows), _flat(labels)
    by_place = np.argsort(at)
    record = by_place[np.searchsorted(at[by_place], wanted)] if len(wanted) else wanted
    places = np.full(len(rows), -1, np.int64)
    places[order] = np.arange(len(order))
    return places[record]


def _flat(records: Records) -> npt.NDArray[np.int64]:
    """Part and row as one number: a part has fewer than 2^40 rows."""
    return (records["part"].astype(np.int64) << 40) + records["row"]


def _gold(
    voted: Records, keys: npt.NDArray[np.uint64], labels: npt.NDArray[np.uint64]
) -> dict[str, dict[str, int]]:
    """Of rows that rules vote on, what people label the same texts, which are given by sorted
    keys."""
    if not len(voted) or not len(keys):
        return {}
    nearest = np.minimum(np.searchsorted(keys, voted["key"]), len(keys) - 1)
    is_known = keys[nearest] == voted["key"]
    found: dict[str, dict[str, int]] = {}
    for votes, label in zip(
        voted["votes"][is_known].tolist(), labels[nearest[is_known]].tolist(), strict=True
    ):
        counts = found.setdefault(str(votes), {})
        counts[str(label)] = counts.get(str(label), 0) + 1
    return found


def _node(groups: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return (groups >> np.uint64(2)).astype(np.int64) | GROUP_BIT


def _collected(draft: Draft, folder: str, places: range, kind: Any) -> Records:
    return collect(draft.worked(folder), places, np.empty(0, kind))


def _documents(draft: Draft, rows: Records) -> pa.Table:
    """The documents of ROW records, of one at least, in their order."""
    folder, order = draft.worked(TEXTS), np.lexsort((rows["row"], rows["part"]))
    found = [
        DocumentFile(folder / f"{part:06d}.arrow").table(
            rows["row"][order][rows["part"][order] == part]
        )
        for part in np.unique(rows["part"]).tolist()
    ]
    return pa.concat_tables(found).take(pa.array(np.argsort(order)))


def _counted(draft: Draft, rows: Records, dropped: dict[str, npt.NDArray[np.int64]]) -> Counts:
    """What was dropped of a bucket, with samples."""
    counts = Counts()
    for why, places in dropped.items():
        counts.dropped[why] += len(places)
        lowest = rows[places[np.argsort(rows["key"][places], kind="stable")[:SAMPLES]]]
        texts = _documents(draft, lowest)["text"].to_pylist()
        for key, text in zip(lowest["key"].tolist(), texts, strict=True):
            counts.sample(why, key, text)
    return counts

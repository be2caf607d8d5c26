"""Golden sets in the centre: made from pictures with labels, signed, kept, and demanded of deployments.

A set is kept like a model, by its digest in the model store, and its signed manifest goes to the store with
the deployment that has to pass it. ``demand`` is for whoever makes deployments: without it nothing is
replayed.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from uuid import UUID

from contract.errors import ContractError, MessageError
from contract.golden import (
    MAX_FRAME_BYTES,
    MAX_FRAMES,
    Expected,
    GoldenClip,
    GoldenContent,
    GoldenFrame,
    GoldenManifest,
    check,
    classes_of,
    frame_name,
    pack,
    picture_size,
)
from contract.signing import Signed
from controller.domain.golden import GoldenCheck, GoldenDemand, GoldenSet
from controller.domain.journal import AuditEntry
from controller.domain.page import Page, PageRequest
from controller.errors import ConflictError, InvalidError, NotFoundError, PermanentError
from controller.models.dataset import Dataset, read_dataset
from controller.models.keys import SigningKey
from controller.models.registry import LABEL_PATTERN
from controller.models.store import Incoming, ModelStore
from controller.ports import Repositories, Transactions

SUFFIXES: Mapping[str, str] = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}


class GoldenSets:
    def __init__(
        self, store: ModelStore, key: SigningKey, transactions: Transactions, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._key = key
        self._transactions = transactions
        self._clock = clock

    def receive(self) -> Incoming:
        """Where to write a set that shall be imported."""
        return self._store.receive()

    def import_set(self, incoming: Incoming, name: str, version: str, actor: str) -> GoldenSet:
        """Check, keep, sign and record what was received. Importing the same again changes nothing.

        Raises ``InvalidError`` for a bad file or name, ``ConflictError`` when name and version belong to
        other bytes or the bytes to another name or version.
        """
        for what, text in (("name", name), ("version", version)):
            if not re.fullmatch(LABEL_PATTERN, text):
                raise InvalidError(
                    f"golden set {what} {text[:80]!r}: use letters, digits and - _ . +, at most 128"
                )
        digest = incoming.finish()
        content = _check_file(incoming.path)
        frames = sum(1 for _ in content.frames)
        manifest = GoldenManifest(
            digest=digest, size_bytes=incoming.size, name=name, version=version, frames=frames,
            counts=content.counts,
        )  # fmt: skip
        golden = GoldenSet(
            digest, name, version, incoming.size, frames, content.counts,
            self._key.sign(manifest.model_dump_json()).model_dump(), self._clock(), actor,
        )  # fmt: skip
        with self._transactions.writing() as repositories:
            known = repositories.golden.get(digest)
            if known is not None and (known.name, known.version) != (name, version):
                raise ConflictError(f"these bytes are known as {known.name} {known.version} already")
            self._store.adopt(incoming)
            if known is not None:
                return known
            repositories.golden.add(golden)
            detail = {"digest": digest, "frames": frames, "size_bytes": incoming.size}
            repositories.audit.add(
                AuditEntry(golden.created_at, actor, "golden.import", f"{name}:{version}", detail)
            )
        return golden

    def page(self, request: PageRequest) -> Page[GoldenSet]:
        with self._transactions.reading() as repositories:
            return repositories.golden.page(request)


def wanted_set(repositories: Repositories, golden: str = "") -> GoldenSet:
    """``golden`` is a set's digest or name, of which the newest is taken; empty: the newest of all. Raises
    ``NotFoundError``."""
    by_digest = golden.startswith("sha256:")
    found = repositories.golden.get(golden) if by_digest else repositories.golden.newest(golden or None)
    if found is None:
        which = f" {golden[:80]!r}" if golden else ""
        raise NotFoundError(f"there is no golden set{which}; import one with storefleet golden import")
    return found


def demand(
    repositories: Repositories,
    rollout_ids: Iterable[UUID],
    *,
    min_recall: float,
    max_count_error: float,
    golden: str = "",
) -> GoldenSet:
    """Have the models of these deployments pass a golden set on the stores' nodes before they take over.

    ``rollout_ids`` are those of the deployments, in the same transaction that makes them; ``golden`` is a
    set's digest or name, of which the newest is taken; empty: the newest of all. Raises ``NotFoundError``.
    """
    found = wanted_set(repositories, golden)
    repositories.golden.demand(
        [GoldenDemand(one, found.digest, min_recall, max_count_error) for one in rollout_ids]
    )
    return found


def check_of(repositories: Repositories, rollout_id: UUID) -> GoldenCheck | None:
    """What the pods of this deployment have to pass; None: nothing. Raises ``PermanentError``."""
    demanded = repositories.golden.demanded(rollout_id)
    if demanded is None:
        return None
    golden = repositories.golden.get(demanded.golden_digest)
    try:
        signed = Signed.model_validate(dict(golden.manifest)) if golden else None
    except (ContractError, ValueError) as error:
        raise PermanentError(f"the manifest of golden set {demanded.golden_digest} is damaged") from error
    if signed is None:
        raise PermanentError(f"golden set {demanded.golden_digest} is gone; import it again")
    return GoldenCheck(signed, demanded.min_recall, demanded.max_count_error)


def from_dataset(directory: Path, split: str = "") -> bytes:
    """A golden set of the labelled pictures in ``directory``, of its test pictures if it has any.

    The layout is Ultralytics': ``data.yaml``, ``images/``, ``labels/``. Raises ``PermanentError``,
    ``InvalidError``."""
    dataset = read_dataset(directory)
    chosen = split or next((name for name in ("test", "val", "train") if name in dataset.splits), "")
    files = sorted(p for p in dataset.images(chosen).iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InvalidError(f"{directory}: no .jpg or .png pictures in its {chosen!r} images")
    if len(files) > MAX_FRAMES:
        raise InvalidError(f"{directory}: {len(files)} pictures; a golden set has at most {MAX_FRAMES}")
    pictures: dict[str, bytes] = {}
    clips: dict[str, list[GoldenFrame]] = {}
    for file in files:
        name = frame_name(len(pictures), SUFFIXES[file.suffix.lower()])
        pictures[name] = _read(file)
        clips.setdefault(file.stem.rpartition("-")[0] or file.stem, []).append(
            _frame(dataset, file, name, pictures[name])
        )
    made = tuple(GoldenClip(name=name[:64], frames=tuple(frames)) for name, frames in clips.items())
    try:
        return pack(GoldenContent(classes=classes_of(made), clips=made), pictures)
    except (MessageError, ValueError) as error:
        raise InvalidError(f"{directory}: {error}") from error


def _frame(dataset: Dataset, file: Path, name: str, picture: bytes) -> GoldenFrame:
    try:
        width, height = picture_size(picture)
        lines = _read(_labels_of(file)).decode().splitlines()
        detections = tuple(
            _expected(dataset, line.split(), (width, height)) for line in lines if line.strip()
        )
        return GoldenFrame(file=name, width=width, height=height, detections=detections)
    except (MessageError, ValueError, IndexError) as error:
        raise InvalidError(f"{file.name} or its labels: {error}") from error


def _expected(dataset: Dataset, words: list[str], size: tuple[int, int]) -> Expected:
    """One line of a label file: class id, then middle x, middle y, width and height as shares."""
    x, y, width, height = (float(word) for word in words[1:5])
    box = ((x - width / 2) * size[0], (y - height / 2) * size[1])
    far = ((x + width / 2) * size[0], (y + height / 2) * size[1])
    number = int(words[0])
    if not 0 <= number < len(dataset.names):
        raise ValueError(f"class id {number} is not one of the {len(dataset.names)} of data.yaml")
    return Expected(label=dataset.names[number], xyxy=(*box, *far))


def _labels_of(image: Path) -> Path:
    """Where Ultralytics looks: the last ``images`` of the path replaced by ``labels``."""
    parts = list(image.parts)
    at = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:at], "labels", *parts[at + 1 :]).with_suffix(".txt")


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > MAX_FRAME_BYTES:
            raise InvalidError(f"{file}: {size} bytes; a file of a golden set has at most {MAX_FRAME_BYTES}")
        return file.read_bytes()
    except OSError as error:
        raise InvalidError(f"cannot read {file}: {error.strerror}") from error


def _check_file(path: Path) -> GoldenContent:
    try:
        with path.open("rb") as file:
            return check(file)
    except MessageError as error:
        raise InvalidError(str(error)) from error
    except OSError as error:
        raise PermanentError(f"cannot read {path}: {error.strerror}") from error

"""Import: from uploaded bytes to a signed, stored, recorded model.

The order is what makes it safe to be cut off anywhere: the bytes come to rest first, then one
transaction records the model and the audit entry. An artifact without a record is harmless and is
taken up by the next import of the same file.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contract.workload import ModelManifest
from controller.domain.journal import AuditEntry
from controller.domain.model import Model
from controller.domain.page import Page, PageRequest
from controller.errors import ConflictError, InvalidError, NotFoundError
from controller.models.artifact import inspect_artifact
from controller.models.keys import SigningKey
from controller.models.store import Incoming, ModelStore, StoredArtifact
from controller.ports import Transactions

LABEL_PATTERN = r"^[a-zA-Z0-9][-a-zA-Z0-9_.+]{0,127}$"
"""Of model names and versions."""


class ModelRegistry:
    def __init__(
        self, store: ModelStore, key: SigningKey, transactions: Transactions, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._key = key
        self._transactions = transactions
        self._clock = clock

    def receive(self) -> Incoming:
        """Where to write an artifact that shall be imported."""
        return self._store.receive()

    def import_model(
        self,
        incoming: Incoming,
        name: str,
        version: str,
        actor: str,
        metrics: Mapping[str, Any] | None = None,
    ) -> Model:
        """Check, keep, sign and record what was received. Importing the same again changes nothing.

        Raises ``ArtifactError`` or another ``InvalidError`` for a bad file or name, ``ConflictError`` when
        name and version belong to other bytes or the bytes to another name or version.
        """
        for what, text in (("name", name), ("version", version)):
            if not re.fullmatch(LABEL_PATTERN, text):
                raise InvalidError(
                    f"model {what} {text[:80]!r}: use letters, digits and - _ . +, at most 128"
                )
        digest = incoming.finish()
        info = inspect_artifact(incoming.path)
        manifest = ModelManifest(
            digest=digest, size_bytes=info.size_bytes, name=name, version=version, format=info.format,
            task=info.task, names=info.names, image_size=info.image_size,
        )  # fmt: skip
        signed = self._key.sign(manifest.model_dump_json())
        model = Model(
            digest=digest, name=name, version=version, format=info.format, size_bytes=info.size_bytes,
            manifest=signed.model_dump(), created_at=self._clock(), created_by=actor,
            metrics=dict(metrics or {}),
        )  # fmt: skip
        with self._transactions.writing() as repositories:
            known = repositories.models.get(digest)
            if known is not None and (known.name, known.version) != (name, version):
                raise ConflictError(f"these bytes are known as {known.name} {known.version} already")
            self._store.adopt(incoming)
            if known is not None:
                return known
            repositories.models.add(model)
            detail = {"digest": digest, "format": info.format, "size_bytes": info.size_bytes}
            repositories.audit.add(
                AuditEntry(model.created_at, actor, "model.import", f"{name}:{version}", detail)
            )
        return model

    def get(self, digest: str) -> Model:
        """Raises ``NotFoundError``."""
        with self._transactions.reading() as repositories:
            model = repositories.models.get(digest)
        if model is None:
            raise NotFoundError(f"no model has the digest {digest}; 'storefleet models list' shows all")
        return model

    def page(self, request: PageRequest) -> Page[Model]:
        with self._transactions.reading() as repositories:
            return repositories.models.page(request)

    def artifact(self, digest: str) -> StoredArtifact:
        """The artifact on disk, checked. Raises ``NotStored``, ``DamagedArtifact``."""
        return self._store.find(digest)

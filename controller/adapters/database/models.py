"""Models that the centre knows; their bytes are in the model store."""

from sqlalchemy import Connection, insert, select

from controller.adapters.database.rows import Order, as_dict, page
from controller.adapters.database.tables import models
from controller.domain.model import Model
from controller.domain.page import Page, PageRequest
from controller.errors import ConflictError


class Models:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, model: Model) -> None:
        query = select(models.c.digest).where(
            models.c.name == model.name, models.c.version == model.version, models.c.format == model.format
        )
        taken = self._connection.scalar(query)
        if taken is not None and taken != model.digest:
            raise ConflictError(
                f"model {model.name} {model.version} ({model.format}) exists with digest {taken}; "
                "give the new one another version"
            )
        if self.get(model.digest) is None:
            self._connection.execute(insert(models), as_dict(model))

    def get(self, digest: str) -> Model | None:
        row = self._connection.execute(select(models).where(models.c.digest == digest)).one_or_none()
        return Model(**row._mapping) if row else None

    def page(self, request: PageRequest) -> Page[Model]:
        order: Order = [(models.c.name, str), (models.c.version, str), (models.c.digest, str)]
        return page(self._connection, select(models), request, order, lambda row: Model(**row._mapping))

"""Models and their artifacts over HTTP.

An upload is the artifact itself as the request body, so that it goes to the disk as it comes in and
never lies in memory. Downloads may be resumed with ``Range``; the entity tag is the digest.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel

from contract.names import DIGEST_PATTERN
from contract.signing import Signed
from contract.workload import ModelManifest
from controller.api.guard import Guard
from controller.api.listing import Listing, Paging
from controller.domain.model import Model
from controller.models.artifact import MAX_ARTIFACT_BYTES
from controller.models.registry import LABEL_PATTERN, ModelRegistry

UPLOAD_PATH = "/v1/models"
MAX_UPLOAD_BYTES = MAX_ARTIFACT_BYTES

Digest = Annotated[str, Path(pattern=DIGEST_PATTERN)]
Label = Annotated[str, Query(pattern=LABEL_PATTERN)]


class ModelView(BaseModel):
    """A model as the API shows it."""

    digest: str
    name: str
    version: str
    format: Literal["openvino", "onnx"]
    size_bytes: int
    names: tuple[str, ...]
    """Class names by class id."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    created_at: datetime
    created_by: str
    metrics: Mapping[str, Any]
    signed: Signed
    """The signed manifest, as agents get it."""

    @classmethod
    def of(cls, model: Model) -> "ModelView":
        signed = Signed.model_validate(model.manifest)
        manifest = ModelManifest.model_validate_json(signed.payload)
        return cls(
            digest=model.digest, name=model.name, version=model.version, format=manifest.format,
            size_bytes=model.size_bytes, names=manifest.names, image_size=manifest.image_size,
            created_at=model.created_at, created_by=model.created_by, metrics=model.metrics, signed=signed,
        )  # fmt: skip


def build_router(registry: ModelRegistry, guard: Guard) -> APIRouter:
    """Routes under ``/v1/models`` (admin) and ``/v1/artifacts`` (artifact readers)."""
    router = APIRouter(prefix="/v1", tags=["models"])
    actor = Depends(guard.admin)

    @router.post("/models", status_code=201, summary="Import an exported model; the body is the artifact")
    async def import_model(
        request: Request, name: Label, version: Label, by: Annotated[str, actor]
    ) -> ModelView:
        with await run_in_threadpool(registry.receive) as incoming:
            async for chunk in request.stream():
                await run_in_threadpool(incoming.write, chunk)
            model = await run_in_threadpool(registry.import_model, incoming, name, version, by)
        return ModelView.of(model)

    @router.get("/models", dependencies=[actor])
    def list_models(paging: Paging) -> Listing[ModelView]:
        page = registry.page(paging)
        items = [ModelView.of(model) for model in page.items]
        return Listing(items=items, next_cursor=page.next_cursor, end_cursor=page.end_cursor)

    @router.get("/models/{digest}", dependencies=[actor])
    def show_model(digest: Digest) -> ModelView:
        return ModelView.of(registry.get(digest))

    @router.get(
        "/artifacts/{digest}", dependencies=[Depends(guard.artifact_reader)], response_class=FileResponse
    )
    def download(digest: Digest, if_none_match: Annotated[str, Header()] = "") -> Response:
        artifact = registry.artifact(digest)
        tag = f'"{digest}"'
        headers = {"ETag": tag, "Cache-Control": "private, immutable, max-age=31536000"}
        if tag in if_none_match:
            return Response(status_code=304, headers=headers)
        return FileResponse(artifact.path, headers=headers, media_type="application/octet-stream")

    return router

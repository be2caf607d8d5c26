"""Joins the routers to one application."""

from collections.abc import Iterable, Mapping

from fastapi import APIRouter, FastAPI

from controller.api.body_limit import BodyLimit
from controller.api.problems import add_handlers

API_VERSION = "1"


def create_app(
    routers: Iterable[APIRouter], *, max_body_bytes: int, larger_bodies: Mapping[str, int] | None = None
) -> FastAPI:
    """The API made of ``routers``; each of them brings its own guard.

    ``larger_bodies`` gives path prefixes their own body limit in bytes.
    """
    app = FastAPI(title="Storefleet controller", version=API_VERSION, redoc_url=None)
    add_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, larger=larger_bodies or {})
    for router in routers:
        app.include_router(router)
    return app

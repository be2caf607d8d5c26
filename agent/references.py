"""The reference view of each configured camera, for as long as its zones are the ones drawn on it.

An inspector forgets its reference view with its process or its camera's settings. Without the view, a camera
that was moved while the agent was down, or while one release gave way to the next, would have its new view
adopted, and its zones would look empty. So each adopted view is kept on disk, with the drawing that it
belongs to, and whatever process holds the node reads it when it begins to look.
"""

import logging
from dataclasses import replace

from agent.domain.reference_view import Drawing, drawing_of
from agent.errors import TransientError
from agent.ports import Inspector, ReferenceView, ReferenceViews, Thumbnail
from contract.store_config import StoreConfig

_log = logging.getLogger(__name__)


class References:
    """Belongs to the pipeline and its thread. With ``kept`` None, views last no longer than this object."""

    def __init__(self, kept: ReferenceViews | None) -> None:
        self._kept = kept
        self._drawings: dict[str, Drawing] = {}
        self._views: dict[str, ReferenceView] = {}
        self._unsaved: set[str] = set()
        self._refused = False

    def fit(self, config: StoreConfig) -> None:
        """Go on under ``config``: the views of new cameras are loaded, those of cameras that are gone and of
        zones that were drawn anew are forgotten."""
        drawings = {camera.id: drawing_of(config, camera) for camera in config.cameras}
        if self._kept is not None:
            for camera in drawings.keys() - self._drawings.keys():
                view = self._kept.load(camera)
                if view is not None:
                    self._views[camera] = view
        self._drawings = drawings
        self._views = {camera: view for camera, view in self._views.items() if camera in drawings}
        for camera, view in list(self._views.items()):
            drawing = drawings[camera]
            if drawing.replaces(view.drawing):
                _log.info("zones drawn anew; a new reference view will be taken", extra={"camera": camera})
                del self._views[camera]
            elif drawing != view.drawing:
                self._keep(camera, replace(view, drawing=drawing))
        self._unsaved &= self._views.keys()
        if self._kept is not None:
            try:
                self._kept.keep_only(drawings)
            except TransientError as error:
                _log.warning("old reference views not removed", extra={"detail": str(error)})

    def restore(self, camera: str, inspector: Inspector) -> float | None:
        """Give a new ``inspector`` the camera's view; when that was adopted, or None if there is none."""
        view = self._views.get(camera)
        if view is None:
            return None
        if not inspector.restore_reference(view.thumbnail):
            _log.warning(
                "the kept reference view is of another make; a new one will be taken",
                extra={"camera": camera},
            )
            del self._views[camera]
            self._unsaved.discard(camera)
            return None
        return view.adopted_at

    def adopted(self, camera: str, thumbnail: Thumbnail, now: float) -> None:
        """``camera`` has a new reference view; ``save`` stores it."""
        self._keep(camera, ReferenceView(thumbnail, self._drawings[camera], now))

    @property
    def unsaved(self) -> bool:
        return bool(self._unsaved)

    def save(self) -> bool:
        """Store what is new; False when the disk refuses, then ask again later."""
        for camera in sorted(self._unsaved):
            try:
                if self._kept is not None:
                    self._kept.save(camera, self._views[camera])
            except TransientError as error:
                if not self._refused:
                    _log.error("reference view not stored yet", extra={"detail": str(error)})
                self._refused = True
                return False
            self._unsaved.discard(camera)
        self._refused = False
        return True

    def _keep(self, camera: str, view: ReferenceView) -> None:
        self._views[camera] = view
        if self._kept is not None:
            self._unsaved.add(camera)

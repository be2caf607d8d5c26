"""Who may ask: bearer tokens, compared in constant time.

The admin token may do everything. The artifact token lies on every camera node and may only fetch
model artifacts, so that a stolen node gives nobody the fleet.
"""

import re
import secrets
from typing import Annotated

from fastapi import Header, HTTPException

_ACTOR = re.compile(r"[^\w.@+ -]", re.ASCII)


class Guard:
    """Its methods are FastAPI dependencies. They give the name that the audit log gets."""

    def __init__(self, admin_token: str, artifact_token: str) -> None:
        self._admin = admin_token.encode()
        self._artifact = artifact_token.encode()

    def __repr__(self) -> str:
        return "Guard(…)"

    def admin(
        self,
        authorization: Annotated[str, Header()] = "",
        x_storefleet_actor: Annotated[str, Header(max_length=100)] = "",
    ) -> str:
        """Only the admin token. ``X-Storefleet-Actor`` may say which person uses it."""
        token = _bearer(authorization)
        if not secrets.compare_digest(token, self._admin):
            if token and secrets.compare_digest(token, self._artifact):
                raise HTTPException(403, "this token may only fetch artifacts; use the admin token")
            raise _unauthorized()
        name = _ACTOR.sub("", x_storefleet_actor).strip()
        return f"admin:{name}" if name else "admin"

    def approver(
        self,
        authorization: Annotated[str, Header()] = "",
        x_storefleet_actor: Annotated[str, Header(max_length=100)] = "",
    ) -> str:
        """Who may approve or reject a wave: whoever may do everything. Asked for apart, because one day it
        need not be the same people."""
        return self.admin(authorization, x_storefleet_actor)

    def artifact_reader(self, authorization: Annotated[str, Header()] = "") -> str:
        """The artifact token or the admin token."""
        token = _bearer(authorization)
        if secrets.compare_digest(token, self._artifact):
            return "agent"
        if secrets.compare_digest(token, self._admin):
            return "admin"
        raise _unauthorized()


def _bearer(authorization: str) -> bytes:
    scheme, _, token = authorization.partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


def _unauthorized() -> HTTPException:
    return HTTPException(
        401,
        "a valid bearer token is needed: set STOREFLEET_API_TOKEN, or STOREFLEET_API_TOKEN_FILE to the "
        "controller's admin.token",
        headers={"WWW-Authenticate": "Bearer"},
    )

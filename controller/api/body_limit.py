"""Refuses request bodies that are too large, before anything reads them into memory.

It is ASGI middleware, because only there a body can be counted while it comes in; a
``Content-Length`` may be absent or a lie.
"""

from collections.abc import Mapping
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.api.problems import problem


class _TooLarge(Exception):
    pass


class BodyLimit:
    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int]) -> None:
        """``larger`` maps path prefixes to their own limits in bytes."""
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((n for p, n in self._larger.items() if scope["path"].startswith(p)), self._max_bytes)
        refusal = problem(413, f"the request body is larger than {limit} bytes")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await refusal(scope, receive, send)
            return
        taken = 0
        started = False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if taken > limit and not started:
                return  # FastAPI answers 400 to whatever is raised while it reads; ours says why
            started = True
            await send(message)

        with suppress(_TooLarge):
            await self._app(scope, counted, noted)
        if taken > limit and not started:
            await refusal(scope, receive, send)

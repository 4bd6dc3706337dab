"""HEAD wherever there is GET (RFC 9110, 9.1): what watches a service often asks so.

Load balancers and monitors look at ``/health`` and ``/ready`` by it, caches at feeds.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WITHOUT_END: Final = frozenset({"/v1/events"})
"""A GET that goes on; its HEAD would hold a place for an hour. It stays a 405."""


class Heads:
    """Stands before everything: answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if not is_head or scope["path"] in WITHOUT_END:
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_head)

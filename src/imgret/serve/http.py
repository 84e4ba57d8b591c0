"""The HTTP of the server: uvicorn's protocol over httptools, with a limit that it lacks."""

from __future__ import annotations

from typing import final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["BoundedHttp"]

_MOST = 2**16  # bytes, as uvicorn's other protocol (h11) takes


@final
class BoundedHttp(HttpToolsProtocol):
    """Refuses endless headers, as uvicorn keeps them all; bodies are the guard's concern."""

    _no_body = 0  # bytes since a part of a body, or since the last request

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        self._no_body += len(data)
        super().data_received(data)
        if self._no_body > _MOST and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._no_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._no_body = 0
        super().on_message_complete()

"""Pages for those who watch the process: is it alive, may it be given work."""

from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class Health(Protocol):
    """Knows what is wrong."""

    def problems(self) -> list[str]:
        """Return why no work should come here now, in words fit for strangers; empty if it may."""
        ...


class HealthPages:
    """The /health pages."""

    def __init__(self, health: Health) -> None:
        """Take whom to ask."""
        self._health = health

    async def live(self, request: Request) -> Response:
        """Answer that the loop runs."""
        return JSONResponse({"status": "live"}, headers={"cache-control": "no-store"})

    async def ready(self, request: Request) -> Response:
        """Answer 200, or 503 with the reasons."""
        problems = self._health.problems()
        return JSONResponse(
            {"status": "not ready" if problems else "ready", "problems": problems},
            status_code=503 if problems else 200,
            headers={"cache-control": "no-store"},
        )

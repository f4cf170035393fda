"""The page and its few addresses, by starlette; everything it knows it asks the desk."""

import importlib.resources
import json
import socket
from collections.abc import Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from marssep.errors import UsageError
from marssep.evaluate.listening.desk import Desk, RefusedError

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MOST_BYTES = 1 << 16  # an answer has some hundreds
_HEADERS = {
    # Nothing is fetched from elsewhere, no other page may show this one in a frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def build_app(desk: Desk, *, hosts: Sequence[str] = ("*",)) -> Starlette:
    """The web application of a study.

    Args:
        desk: the study.
        hosts: names under which it answers; a page elsewhere that points its own name at this machine is refused.
    """

    async def page(request: Request) -> Response:
        return HTMLResponse(page_source(), headers=_HEADERS)

    async def study(request: Request) -> Response:
        return JSONResponse(desk.about())

    async def join(request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(desk.join(body.get("rater")))

    async def next_trial(request: Request) -> Response:
        trial = desk.next(request.path_params["rater"])
        return JSONResponse({"done": trial is None, "trial": trial})

    async def answer(request: Request) -> Response:
        body = await _body(request)
        given = {"scores": body.get("scores"), "choice": body.get("choice")}
        return JSONResponse(desk.answer(body.get("rater"), body.get("trial"), **given), status_code=201)

    async def sound(request: Request) -> Response:
        found = desk.sound(*(request.path_params[name] for name in ("rater", "trial", "sound")))
        return Response(found.data, media_type=found.media_type, headers={"Cache-Control": "private, max-age=3600"})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse({"error": error.sentence}, status_code=error.status)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/study", study),
            Route("/api/raters", join, methods=["POST"]),
            Route("/api/raters/{rater}/next", next_trial),
            Route("/api/answers", answer, methods=["POST"]),
            Route("/audio/{rater}/{trial}/{sound}", sound),
        ],
        exception_handlers={RefusedError: refused},
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
    )


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UsageError: if the address is not to be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--host {host} --port {port}: no such address here ({error}).") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()  # who comes before the server is up waits instead of being turned away
    except OSError as error:
        bound.close()
        raise UsageError(f"--host {host} --port {port}: cannot be used ({error.strerror}); try --port 0.") from None
    return bound


def allowed_hosts(host: str) -> tuple[str, ...]:
    """Names that raters may call the server by: its own for an address of this machine alone, else any."""
    return _LOCAL if host in ("127.0.0.1", "localhost", "::1") else ("*",)


def make_server(app: Starlette) -> uvicorn.Server:
    """A server that is quiet, and leaves soon after Ctrl-C whatever browsers hold open."""
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan="off", ws="none")
    )


def page_source() -> str:
    """The page as it is sent: markup, style and script in one file that needs no other."""
    folder = importlib.resources.files(__package__)
    markup, style, script = (
        folder.joinpath(f"page.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js")
    )
    markup = markup.replace('<link rel="stylesheet" href="page.css">', f"<style>\n{style}</style>")
    return markup.replace('<script src="page.js"></script>', f"<script>\n{script}</script>")


async def _body(request: Request) -> dict[str, object]:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MOST_BYTES:
            raise RefusedError(413, "The answer is longer than any answer.")
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise RefusedError(415, "Send JSON, with the content type application/json.")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise RefusedError(400, "The request holds no JSON.") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "The request holds no JSON object.")
    return body

"""Who may ask, how often, and how much they may send: looked at before anything else sees a request."""

import hashlib
import hmac
import json
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musiclm.serve.metrics import Metrics
from musiclm.serve.settings import Settings

COOKIE = "musiclm"
MAX_JSON_BYTES = 1 << 18
MOST_CLIENTS = 4096  # whose requests are counted
_OPEN = ("/", "/healthz", "/v1/session")  # without a key: the page that asks for it, and what says nothing of anybody
_OPEN_BELOW = "/studio/"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def cookie_of(api_key: str) -> str:
    """What a browser holds in place of the key."""
    return hmac.new(api_key.encode(), b"musiclm studio", hashlib.sha256).hexdigest()


class Guard:
    """A middleware."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._rates = Rates(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, path, writes = Headers(scope=scope), scope["path"], scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if (refusal := self._refusal(headers, path, writes)) is not None:
            await self._refuse(send, *refusal)
            return
        if writes and (seconds := self._rates.wait_s((scope.get("client") or ("",))[0])) > 0:
            line = f"more than {self.settings.requests_per_minute} requests a minute; try again in {seconds} s"
            await self._refuse(send, 429, line, "rate", {"retry-after": str(seconds)})
            return
        most = self.settings.max_upload_bytes if path == "/v1/uploads" else MAX_JSON_BYTES
        try:
            announced = int(headers.get("content-length", 0))
        except ValueError:
            announced = 0
        line = f"more than {most} bytes were sent, and that is the most that is taken here"
        if announced > most:
            await self._refuse(send, 413, line, "size")
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise HTTPException(413, line)  # where the body is read, which passes it on
            return message

        await self.app(scope, counted, send)

    def _refusal(self, headers: Headers, path: str, writes: bool) -> tuple[int, str, str] | None:
        key, host = self.settings.api_key, headers.get("host", "")
        name = urlsplit(f"//{host}").hostname if _is_host(host) else None
        if key is None and name not in (*_LOCAL_NAMES, self.settings.host):
            # a page from elsewhere whose name was made to lead here
            return 421, "this service answers to localhost only; set MUSICLM_API_KEY to use another name", "host"
        origin = headers.get("origin")
        if writes and origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests of other sites' pages are refused", "origin"
        if key is None or path in _OPEN or path.startswith(_OPEN_BELOW):
            return None
        if not any(hmac.compare_digest(given, wanted) for given, wanted in _credentials(headers, key)):
            return 401, "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'", "key"
        return None

    async def _refuse(
        self, send: Send, status: int, line: str, reason: str, more: dict[str, str] | None = None
    ) -> None:
        self.metrics.refused(reason)
        body = json.dumps({"detail": line}).encode()
        fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        fields |= more or {}
        if status == 401:
            fields["www-authenticate"] = "Bearer"
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


def _is_host(host: str) -> bool:
    try:
        return bool(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def _credentials(headers: Headers, key: str) -> list[tuple[bytes, bytes]]:
    """What was given as the key, and what it should be."""
    found = []
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append((value.strip().encode(), key.encode()))
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            found.append((value.encode(), cookie_of(key).encode()))
    return found


class Rates:
    """A bucket of tokens a client, which fills by `per_minute`."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # client -> tokens, when

    def wait_s(self, client: str) -> int:
        """Takes a token; if there is none, in how many seconds there will be."""
        now = time.monotonic()
        tokens, then = self._buckets.get(client, (float(self.per_minute), now))
        tokens = min(self.per_minute, tokens + (now - then) * self.per_minute / 60)
        if len(self._buckets) >= MOST_CLIENTS and client not in self._buckets:
            self._buckets = {name: b for name, b in self._buckets.items() if now - b[1] < 60}
            if len(self._buckets) >= MOST_CLIENTS:
                return 60
        self._buckets[client] = (max(0.0, tokens - 1), now)
        return 0 if tokens >= 1 else max(1, round((1 - tokens) * 60 / self.per_minute))

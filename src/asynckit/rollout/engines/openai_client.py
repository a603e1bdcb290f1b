"""One exchange with a server over HTTP: JSON back, or an error that says what to do about it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from asynckit.errors import DependencyError, RequestError
from asynckit.rollout.openai_config import OpenAIConfig

_CONNECT_SECONDS = 10.0
# Servers close what idles for some seconds (uvicorn: 5); a connection must not be used at that moment.
_IDLE_SECONDS = 2.0
_LONGEST_DETAIL = 300
_CHECK_ADDRESS = "check openai.base_urls"
_OUR_FAULT = (400, 413, 422)
_OUT_OF_ORDER = (500, 502, 504)
_NOT_NOW = (408, 425, 429, 503)
_MENDS = {
    401: "set openai.api_key, for instance as the environment variable ASYNCKIT_OPENAI__API_KEY",
    403: "use a key that may generate (openai.api_key)",
    404: "check openai.base_urls and openai.model",
}


class Unavailable(Exception):
    """The server gave no answer that can be used; another try, or another server, may.

    Attributes:
        taken: it may have begun to work on the request.
        busy: it lives, and refuses requests for now.
        retry_after: seconds that it asks to be left alone; None where it doesn't say.
    """

    def __init__(
        self, reason: str, *, taken: bool, busy: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.taken = taken
        self.busy = busy
        self.retry_after = retry_after


class Client:
    """HTTP connections to all servers. Every exchange ends within ``openai.timeout``."""

    def __init__(self, config: OpenAIConfig) -> None:
        headers = {"Authorization": f"Bearer {config.api_key}"} if config.api_key else {}
        self._timeout = config.timeout
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(None, connect=min(_CONNECT_SECONDS, config.timeout)),
            limits=httpx2.Limits(max_connections=None, keepalive_expiry=_IDLE_SECONDS),
        )

    async def get(self, url: str) -> Any:
        """The JSON at ``url``; raises as :meth:`post` does."""
        return await self._exchange("GET", url, None)

    async def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Send JSON, return the JSON of the answer. Cancelling the caller closes the connection.

        Raises:
            Unavailable: the server can't be reached, is busy or broken, or takes too long.
            RequestError: it refuses this request.
            DependencyError: it refuses us, or has no such route or model.
        """
        return await self._exchange("POST", url, body)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _exchange(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.request(method, url, json=body)
        except TimeoutError:
            raise Unavailable(f"no answer within openai.timeout={self._timeout:g} s", taken=True) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unavailable(f"no connection: {_words(error)}", taken=False) from error
        except httpx2.InvalidURL as error:
            raise DependencyError(f"no address: {error}", where=url, mend=_CHECK_ADDRESS) from error
        except httpx2.RequestError as error:
            raise Unavailable(f"the connection broke: {_words(error)}", taken=True) from error
        if response.status_code != httpx2.codes.OK:
            raise _refusal(response, url)
        try:
            return response.json()
        except ValueError:
            raise Unavailable("its answer is not JSON", taken=True) from None


def _refusal(response: httpx2.Response, url: str) -> Exception:
    status, detail = response.status_code, _detail(response)
    if status in _OUR_FAULT:
        return RequestError(f"the server refuses the request: {detail}", where=url)
    if status in _NOT_NOW or status in _OUT_OF_ORDER:
        wait = _seconds(response.headers.get("Retry-After", ""))
        busy = status in _NOT_NOW
        return Unavailable(f"HTTP {status}: {detail}", taken=not busy, busy=busy, retry_after=wait)
    mend = _MENDS.get(status, _CHECK_ADDRESS)
    return DependencyError(f"the server answers with HTTP {status}: {detail}", where=url, mend=mend)


def _seconds(text: str) -> float | None:
    """``Retry-After`` in seconds; a date is left to our own pauses."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _detail(response: httpx2.Response) -> str:
    """The server's own words, on one line."""
    try:
        content = response.json()
    except ValueError:
        content = response.text
    for key in ("error", "message", "detail"):
        if isinstance(content, dict) and content.get(key):
            content = content[key]
    text = " ".join(str(content).split())
    return text[:_LONGEST_DETAIL] or response.reason_phrase


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

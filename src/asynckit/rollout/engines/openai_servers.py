"""Which server gets the next request, and when one that failed is tried again, as plain decisions."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from asynckit.errors import ConfigError
from asynckit.rollout.engines.openai_wire import ServedModel
from asynckit.rollout.openai_config import OpenAIConfig

_SHORTEST_BREAK = 0.5
_LONGEST_BREAK = 30.0


@dataclass(eq=False)
class Server:
    """One server.

    Attributes:
        url: without ``/v1``.
        served: what it said about the model when it was last asked.
        open: requests under way there.
        failures: in a row, without a response in between.
        away_since: when it was set aside, None while it may get requests.
    """

    url: str
    served: ServedModel | None = None
    open: int = 0
    failures: int = 0
    away_since: float | None = 0.0


def least_busy(servers: Iterable[Server]) -> Server | None:
    """The server with the fewest requests under way among those not set aside; the first of equals."""
    there = (server for server in servers if server.away_since is None)
    return min(there, key=lambda server: server.open, default=None)


def all_away_for(servers: Iterable[Server], now: float) -> float:
    """Seconds for which no server has been there to send to; 0 while there is one."""
    since = [server.away_since for server in servers]
    return 0.0 if None in since else now - max(moment for moment in since if moment is not None)


def pause(failures: int, retry_after: float | None, spread: float) -> float:
    """Seconds until a server that was set aside is tried again.

    They double with every failure in a row, up to 30, and never fall below what the server asks for.

    Args:
        failures: in a row, at least 1.
        retry_after: seconds that the server asks for.
        spread: a random number from 0 to 1: clients that failed together don't come back together.
    """
    longest = min(_LONGEST_BREAK, _SHORTEST_BREAK * 2.0 ** min(failures - 1, 30))
    return max(longest * (0.5 + spread / 2), min(retry_after or 0.0, 2 * _LONGEST_BREAK))


def server_urls(config: OpenAIConfig) -> list[str]:
    """The servers' addresses, each once, without ``/v1`` at their end.

    Raises:
        ConfigError: there is none, one is no address, or the API key is one that a run's config.json hides.
    """
    if config.api_key is not None and config.api_key.startswith("***"):
        raise ConfigError(
            "the key is not kept in a run's config.json",
            where="openai.api_key",
            mend="give it again, for instance as the environment variable ASYNCKIT_OPENAI__API_KEY",
        )
    if config.api_key is not None and not (config.api_key.isascii() and config.api_key.isprintable()):
        raise ConfigError("the key holds what no HTTP header can", where="openai.api_key")
    urls = [_checked_url(url.strip()) for url in (config.base_urls or "").split(",") if url.strip()]
    if not urls:
        raise ConfigError(
            "no server is named",
            where="openai.base_urls",
            mend="such as openai.base_urls=http://127.0.0.1:8000",
        )
    return list(dict.fromkeys(urls))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        named = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # no port, no IPv6 address
        named = False
    if not named or parts.query or parts.fragment or any(letter.isspace() for letter in url):
        raise ConfigError(f"{url!r} is no address", where="openai.base_urls", mend="such as http://host:8000")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "an address holds a user name or password", where="openai.base_urls", mend="use openai.api_key"
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")

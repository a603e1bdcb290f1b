"""Which server is next and when a failed one is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynckit.errors import ConfigError
from asynckit.rollout.engines.openai_servers import Server, all_away_for, least_busy, pause, server_urls
from asynckit.rollout.openai_config import OpenAIConfig

LOADS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=6)


@given(LOADS)
def test_the_least_busy_one_that_is_there_is_next(loads: list[tuple[int, bool]]) -> None:
    """And nobody, where none is there."""
    servers = [
        Server(str(i), open=load, away_since=1.0 if away else None) for i, (load, away) in enumerate(loads)
    ]
    there = [server for server in servers if server.away_since is None]
    found = least_busy(servers)
    assert (found is None) == (not there)
    assert found is None or found.open == min(server.open for server in there)


def test_the_clock_runs_from_the_moment_when_the_last_server_left() -> None:
    """As long as one is there, nobody is out of reach."""
    one, two = Server("1", away_since=5.0), Server("2", away_since=None)
    assert all_away_for([one, two], 100.0) == 0.0
    two.away_since = 90.0
    assert all_away_for([one, two], 100.0) == 10.0


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e9), st.floats(0, 1))
def test_pauses_grow_to_a_limit_and_heed_the_server(
    failures: int, retry_after: float | None, spread: float
) -> None:
    """Never at once, never for ever, and not before the server wants it."""
    seconds = pause(failures, retry_after, spread)
    assert 0.25 <= seconds <= 60.0
    assert seconds >= min(retry_after or 0.0, 60.0)
    assert retry_after is not None or pause(failures + 1, None, spread) >= seconds


def test_addresses_are_taken_as_people_write_them() -> None:
    """With or without /v1, a slash, spaces or repetitions."""
    text = " http://one:8000/v1/, https://two/sub/v1 ,http://one:8000,http://[::1]:80"
    assert server_urls(OpenAIConfig(base_urls=text)) == [
        "http://one:8000",
        "https://two/sub",
        "http://[::1]:80",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("one:8000", "ftp://one", "http://", "http://one:port", "http://one:99999", "http://one/?a=b"),
        *("http://one two", "http://[::1", "http://me:secret@one", " , ", ""),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """With the setting's name, and without a password that may be in it."""
    with pytest.raises(ConfigError) as caught:
        server_urls(OpenAIConfig(base_urls=text))
    assert caught.value.where == "openai.base_urls"
    assert "secret" not in str(caught.value)


def test_a_masked_key_is_not_sent() -> None:
    """A run's config.json holds a fingerprint in its place."""
    with pytest.raises(ConfigError, match="ASYNCKIT_OPENAI__API_KEY"):
        server_urls(OpenAIConfig(base_urls="http://one", api_key="***0a1b2c3d"))
    with pytest.raises(ConfigError, match="no HTTP header"):
        server_urls(OpenAIConfig(base_urls="http://one", api_key="a\nb"))

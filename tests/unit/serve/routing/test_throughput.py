"""Whoever is sent away hears a time that fits how fast requests end."""

import pytest

from asynckit.serve.routing.throughput import Throughput


@pytest.mark.parametrize(
    ("per_second", "waiting", "seconds"), [(10, 100, 10), (1, 5, 5), (1, 500, 60), (50, 1, 1)]
)
def test_time_follows_the_rate(per_second: float, waiting: int, seconds: float) -> None:
    """As many seconds as the queue takes at the present rate, within bounds."""
    throughput = Throughput()
    for number in range(64):
        throughput.ended(number / per_second)
    assert throughput.retry_after(waiting, 64 / per_second) == pytest.approx(seconds, abs=1)


def test_nothing_known() -> None:
    """Before anything has ended there is still an answer."""
    assert Throughput().retry_after(100, 0.0) == 1.0

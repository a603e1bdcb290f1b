"""Requests go where least is left to compute."""

from asynckit.engine.request import Request
from asynckit.serve.routing.balancing import SAMPLE_TOKENS, Balancer, prefix_hashes

IDLE = [(0, 0), (1, 0)]


def _request(prompt: tuple[int, ...], adapter: str | None = None) -> Request:
    return Request("r", prompt, adapter=adapter)


def test_a_known_beginning_attracts() -> None:
    """A prompt goes to the replica that had its beginning, unless that one has too much to do."""
    balancer = Balancer(2, 4)
    first = _request(tuple(range(100)))
    balancer.place(first, [(1, 0)])
    assert balancer.choose(_request((*range(100), 7)), IDLE) == 1
    assert balancer.choose(_request(tuple(range(50, 150))), IDLE) == 0
    much = 100 // SAMPLE_TOKENS + 1
    assert balancer.choose(_request(tuple(range(100))), [(0, 0), (1, much)]) == 0


def test_the_same_text_with_another_adapter_is_another_beginning() -> None:
    """Keys and values of one adapter are of no use to another."""
    prompt = tuple(range(40))
    assert not set(prefix_hashes(prompt, None, 4)) & set(prefix_hashes(prompt, "german", 4))


def test_adapters_stay_together() -> None:
    """A short prompt goes where its adapter is loaded."""
    balancer = Balancer(2, 4)
    balancer.place(_request((1,), "german"), [(1, 0)])
    assert balancer.choose(_request((2,), "german"), IDLE) == 1


def test_a_restarted_replica_knows_nothing() -> None:
    """Its cache is empty, and nobody is sent there for it."""
    balancer = Balancer(2, 4)
    balancer.place(_request(tuple(range(40))), [(1, 0)])
    balancer.forget(1)
    assert balancer.choose(_request(tuple(range(40))), IDLE) == 0


def test_memory_is_bounded_by_the_cache() -> None:
    """No more blocks are remembered than the engine's cache can hold."""
    balancer = Balancer(2, 4)
    balancer.forget(0, kv_cache_tokens=40)
    for start in range(0, 4000, 40):
        balancer.place(_request(tuple(range(start, start + 40))), [(0, 0)])
    assert len(balancer._blocks[0]) == 10

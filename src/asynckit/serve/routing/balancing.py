"""Which replica gets a request: the one where the least is left to compute, all in tokens.

A replica is likely to have the keys and values of the prompts that it had before, so the hashes of their
blocks are remembered, chained as the engine's own prefix cache has them; an adapter's requests go where its
others went, which spares loading it. Against that stands how much a replica has to do already.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from asynckit.engine.request import Request

SAMPLE_TOKENS = 64
"""What a sample that runs slows a new one down by, as tokens of prompt."""
ADAPTER_TOKENS = 256
"""What loading an adapter costs, as tokens of prompt."""
MOST_BLOCKS = 65536
MOST_ADAPTERS = 256


class _Recent:
    """The keys that were seen last, so many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[object, None] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: object) -> None:
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)


class Balancer:
    """Remembers what each replica was given.

    Args:
        replicas: how many there are.
        block_size: tokens per block of the engine's cache.
    """

    def __init__(self, replicas: int, block_size: int) -> None:
        self._replicas = replicas
        self._block_size = block_size
        self._most_blocks = MOST_BLOCKS
        self._blocks = [_Recent(MOST_BLOCKS) for _ in range(replicas)]
        self._adapters = [_Recent(MOST_ADAPTERS) for _ in range(replicas)]

    def forget(self, replica: int, kv_cache_tokens: int | None = None) -> None:
        """The replica's cache is empty; it holds so many tokens, and no more blocks are remembered."""
        if kv_cache_tokens:
            self._most_blocks = min(MOST_BLOCKS, max(1, kv_cache_tokens // self._block_size))
        self._blocks[replica] = _Recent(self._most_blocks)
        self._adapters[replica] = _Recent(MOST_ADAPTERS)

    def choose(self, request: Request, candidates: Sequence[tuple[int, int]]) -> int:
        """The best of several replicas.

        Args:
            request: to be placed.
            candidates: replicas that can take it and how many samples each has open; at least one.
        """
        return self._cheapest(request, self._hashes(request), candidates)

    def place(self, request: Request, candidates: Sequence[tuple[int, int]]) -> int:
        """Choose, and remember that the chosen one has the request now."""
        hashes = self._hashes(request)
        replica = self._cheapest(request, hashes, candidates)
        for key in hashes:
            self._blocks[replica].add(key)
        if request.adapter is not None:
            self._adapters[replica].add(request.adapter)
        return replica

    def _cheapest(self, request: Request, hashes: list[int], candidates: Sequence[tuple[int, int]]) -> int:
        def cost(candidate: tuple[int, int]) -> tuple[int, int, int]:
            replica, samples = candidate
            return self._cost(request, hashes, replica) + SAMPLE_TOKENS * samples, samples, replica

        return min(candidates, key=cost)[0]

    def _cost(self, request: Request, hashes: list[int], replica: int) -> int:
        known = 0
        for key in hashes:
            if key not in self._blocks[replica]:
                break
            known += self._block_size
        cold = request.adapter is not None and request.adapter not in self._adapters[replica]
        return len(request.prompt_ids) - known + ADAPTER_TOKENS * cold

    def _hashes(self, request: Request) -> list[int]:
        if self._replicas == 1:
            return []  # there is nothing to choose, and hashing costs
        return list(prefix_hashes(request.prompt_ids, request.adapter, self._block_size))


def prefix_hashes(ids: Sequence[int], adapter: str | None, block_size: int) -> Iterable[int]:
    """One number for each full block of a prompt, standing for it and all before it."""
    key = hash(adapter)
    for start in range(0, len(ids) - block_size + 1, block_size):
        key = hash((key, *ids[start : start + block_size]))
        yield key

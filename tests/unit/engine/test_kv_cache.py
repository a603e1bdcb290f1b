"""The cache tensors: sized right."""

from asynckit.engine.kv_cache import CacheShape


def test_bytes_per_token_counts_keys_and_values() -> None:
    """Cache sizing must count both tensors of every layer."""
    assert CacheShape(layers=30, kv_heads=3, head_dim=64).bytes_per_token(2) == 2 * 30 * 3 * 64 * 2

"""The C kernels compute what the torch code computes that they replace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from asynckit.engine import native
from asynckit.engine.attention import decode_with_torch
from asynckit.engine.native import Kernels, load_kernels, supports

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    loaded = load_kernels(request.param, None)
    if loaded is None:
        pytest.skip("no C compiler on this machine")
    return loaded


@pytest.mark.parametrize("heads", [(1, 1), (2, 3), (3, 9), (4, 4), (1, 12)])
@pytest.mark.parametrize("window", [0, 1, 5, 64])
def test_decode_attention_equals_torch(kernels: Kernels, heads: tuple[int, int], window: int) -> None:
    """For every grouping of heads and window, whatever the lengths and the order of the blocks."""
    generator = torch.Generator().manual_seed(0)
    kv_heads, query_heads = heads[0], heads[0] * max(1, heads[1] // heads[0])
    block_size, head_dim, blocks = 8, 32, 60

    def random(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator).to(kernels.dtype)

    keys, values = (
        random(blocks, kv_heads, block_size, head_dim),
        random(blocks, kv_heads, block_size, head_dim),
    )
    context_B = torch.tensor([1, 8, 9, 40, 63])
    tables_BL = torch.randperm(blocks, generator=generator)[:40].view(5, 8)
    query_HTD = random(9, query_heads, head_dim).transpose(0, 1)  # as the model gives it: not contiguous
    row_B = torch.tensor([0, 2, 3, 7, 8])
    out_THD = torch.zeros(9, query_heads, head_dim, dtype=kernels.dtype)
    kernels.decode(out_THD, query_HTD, keys, values, row_B, tables_BL, context_B, 0.2, window)
    expected = decode_with_torch(
        query_HTD[:, row_B].transpose(0, 1), keys, values, tables_BL, context_B, 0.2, window or None
    )
    assert (out_THD[row_B].float() - expected.float()).abs().max() < TOLERANCE[kernels.dtype]
    assert (out_THD[[1, 4, 5, 6]] == 0).all(), "rows of others are left alone"


def test_a_sequence_s_attention_does_not_depend_on_the_batch(kernels: Kernels) -> None:
    """Bit for bit the same alone and among others."""
    generator = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(16, 2, 8, 32, generator=generator).to(kernels.dtype) for _ in range(2))
    query_HTD = torch.randn(6, 4, 32, generator=generator).to(kernels.dtype)
    tables, contexts = torch.arange(16).view(4, 4), torch.tensor([30, 5, 17, 32])
    together, alone = (torch.zeros(4, 6, 32, dtype=kernels.dtype) for _ in range(2))
    kernels.decode(together, query_HTD, keys, values, torch.arange(4), tables, contexts, 0.2, 0)
    kernels.decode(alone, query_HTD, keys, values, torch.tensor([2]), tables[2:3], contexts[2:3], 0.2, 0)
    assert torch.equal(together[2], alone[2])


def test_nan_stays_nan(kernels: Kernels) -> None:
    """A broken value must be seen, not turned into a number."""
    keys = torch.zeros(1, 1, 8, 16, dtype=kernels.dtype)
    keys[0, 0, 2] = float("nan")
    out = torch.zeros(1, 1, 16, dtype=kernels.dtype)
    query = torch.ones(1, 1, 16, dtype=kernels.dtype)
    one, zero = torch.tensor([4]), torch.tensor([0])
    kernels.decode(out, query, keys, torch.ones_like(keys), zero, zero[None], one, 1.0, 0)
    assert out.isnan().all()
    x = torch.full((1, 16), float("nan"), dtype=kernels.dtype)
    assert kernels.rms_norm(x, torch.ones(16, dtype=kernels.dtype), 1e-6).isnan().all()
    assert kernels.silu_mul(x.repeat(1, 2)).isnan().all()


def test_store_puts_rows_where_they_belong(kernels: Kernels) -> None:
    """Rows go to their block and offset; nothing else changes."""
    generator = torch.Generator().manual_seed(2)
    keys, values = (torch.zeros(4, 2, 8, 16, dtype=kernels.dtype) for _ in range(2))
    key, value = (
        torch.randn(3, 2, 16, generator=generator).to(kernels.dtype).transpose(0, 1) for _ in range(2)
    )
    blocks, offsets = torch.tensor([3, 0, 3]), torch.tensor([7, 0, 2])
    kernels.store(keys, values, key, value, blocks, offsets)
    assert torch.equal(keys[blocks, :, offsets], key.transpose(0, 1))
    assert torch.equal(values[blocks, :, offsets], value.transpose(0, 1))
    assert keys.count_nonzero() == key.count_nonzero()


def test_rms_norm_and_gate_equal_torch(kernels: Kernels) -> None:
    """Norm and gated activation as Llama's code computes them, small and large values alike."""
    generator = torch.Generator().manual_seed(3)
    x = (torch.randn(70, 64, generator=generator) * 10).to(kernels.dtype)
    weight = torch.rand(64, generator=generator).to(kernels.dtype)
    wide = x.float()
    normal = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(kernels.dtype)
    relative = {torch.float32: 1e-5, torch.bfloat16: 2**-7}[kernels.dtype]
    assert torch.allclose(kernels.rms_norm(x, weight, 1e-5).float(), (weight * normal).float(), rtol=relative)
    gate, up = x[:, :32], x[:, 32:]
    expected = torch.nn.functional.silu(gate) * up
    assert torch.allclose(kernels.silu_mul(x).float(), expected.float(), rtol=relative, atol=1e-30)


def test_heads_that_the_kernel_can_t_take_are_known() -> None:
    """They go to torch instead."""
    assert supports(64, 3)
    assert not supports(20, 1)
    assert not supports(64, 17)


@pytest.fixture
def fresh_library() -> Iterator[None]:
    native._library.cache_clear()
    yield
    native._library.cache_clear()


@pytest.mark.usefixtures("fresh_library")
def test_without_a_compiler_there_are_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a compiler runs on torch alone."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_kernels(torch.float32, str(tmp_path)) is None


@pytest.mark.usefixtures("fresh_library")
def test_a_compiler_that_fails_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken compiler costs speed and says so."""
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert load_kernels(torch.float32, str(tmp_path / "cache")) is None
    assert "decoding is slower" in caplog.text

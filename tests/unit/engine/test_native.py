"""The C kernels compute what the torch code computes that they replace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynckit.engine import native
from asynckit.engine.attention import Span
from asynckit.engine.kv_cache import CacheShape, KVCache
from asynckit.engine.native import Kernels, load_kernels, supports
from asynckit.engine.native_attention import NativeBatch
from asynckit.engine.softmax import Softmax
from asynckit.engine.torch_attention import TorchBatch

DTYPES = [torch.float32, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
BLOCK, HEAD = 16, 32
HEADS = [(1, 1), (2, 6), (3, 9), (4, 4), (1, 12), (1, 20)]


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    loaded = load_kernels(request.param, None)
    if loaded is None:
        pytest.skip("no C compiler on this machine")
    return loaded


class Stage:
    """One layer's cache for each way to attend, and random rows."""

    def __init__(self, kernels: Kernels, kv_heads: int, query_heads: int, head_dim: int = HEAD) -> None:
        self.kernels, self.group = kernels, query_heads // kv_heads
        self.heads = (query_heads, kv_heads, kv_heads)
        self.head_dim = head_dim
        shape = CacheShape(1, kv_heads, head_dim)
        self.native, self.plain = (
            KVCache(shape, 64, BLOCK, kernels.dtype, torch.device("cpu")) for _ in range(2)
        )
        self._generator = torch.Generator().manual_seed(0)

    def rows(self, count: int) -> list[torch.Tensor]:
        """Queries, keys and values as the model gives them: parts of one tensor."""
        whole = torch.randn(count, sum(self.heads), self.head_dim, generator=self._generator)
        return list(torch.split(whole.to(self.kernels.dtype), list(self.heads), 1))

    def attend(self, spans: list[Span], rows: list[torch.Tensor], window: int | None = None) -> torch.Tensor:
        """What the kernel computes."""
        batch = NativeBatch(self.native, BLOCK, spans, self.kernels, self.group)
        query, key, value = rows
        return batch.attend(0, query, key, value, 0.2, window)

    def attend_with_torch(
        self, spans: list[Span], rows: list[torch.Tensor], window: int | None = None
    ) -> torch.Tensor:
        """What torch computes."""
        query, key, value = rows
        return TorchBatch.of(self.plain, BLOCK, spans).attend(0, query, key, value, 0.2, window)


# Three sequences whose blocks are mixed up: two prompts in chunks, then a step of all three.
PASSES = [
    [Span(0, 23, 0, [3, 1]), Span(23, 1, 0, [9, 2, 8])],
    [Span(0, 70, 23, [3, 1, 7, 0, 5, 4]), Span(70, 40, 1, [9, 2, 8]), Span(110, 5, 0, [6])],
    [Span(0, 1, 93, [3, 1, 7, 0, 5, 4]), Span(1, 1, 41, [9, 2, 8]), Span(2, 1, 5, [6])],
]


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("window", [None, 1, 5, 40])
def test_attention_equals_torch(kernels: Kernels, heads: tuple[int, int], window: int | None) -> None:
    """For every grouping of heads and window: prompts, later chunks of them, and single rows."""
    stage = Stage(kernels, *heads)
    for spans in PASSES:
        rows = stage.rows(sum(span.length for span in spans))
        found, expected = stage.attend(spans, rows, window), stage.attend_with_torch(spans, rows, window)
        assert (found.float() - expected.float()).abs().max() < TOLERANCE[kernels.dtype]


@pytest.mark.parametrize("head_dim", [16, 48, 80, 256])
def test_attention_takes_heads_of_any_multiple_of_16(kernels: Kernels, head_dim: int) -> None:
    """Also those that don't fill the widest registers."""
    stage = Stage(kernels, 2, 4, head_dim)
    for spans in PASSES:
        rows = stage.rows(sum(span.length for span in spans))
        found, expected = stage.attend(spans, rows), stage.attend_with_torch(spans, rows)
        assert (found.float() - expected.float()).abs().max() < TOLERANCE[kernels.dtype]


@pytest.mark.parametrize("window", [None, 20])
@given(cuts=st.lists(st.integers(1, 89), max_size=6, unique=True))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_s_attention_does_not_depend_on_chunks(
    kernels: Kernels, window: int | None, cuts: list[int]
) -> None:
    """Bit for bit the same in one pass, in chunks cut anywhere, and beside another sequence."""
    stage, blocks = Stage(kernels, 3, 9), [3, 1, 7, 0, 5, 4]
    rows = stage.rows(90)
    whole = stage.attend([Span(0, 90, 0, blocks)], rows, window)
    ends = [*sorted(cuts), 90]
    for begin, end in zip([0, *ends], ends, strict=False):
        others = stage.rows(33)
        joined = [torch.cat([o, r[begin:end]]) for o, r in zip(others, rows, strict=True)]
        spans = [Span(0, 33, 0, [20, 21, 22]), Span(33, end - begin, begin, blocks)]
        assert torch.equal(stage.attend(spans, joined, window)[33:], whole[begin:end])


def test_queries_and_keys_are_rotated_on_the_way(kernels: Kernels) -> None:
    """The rotary embedding of Llama's code."""
    stage, spans = Stage(kernels, 2, 6), [Span(0, 40, 0, [3, 1, 7])]
    query, key, value = stage.rows(40)
    angles = torch.linspace(0, 9, 40 * HEAD // 2).view(40, -1).repeat(1, 2)
    cosine, sine = angles.cos().to(kernels.dtype), angles.sin().to(kernels.dtype)

    def rotated(x: torch.Tensor) -> torch.Tensor:
        low, high = x.float().chunk(2, -1)
        turned = torch.cat((-high, low), -1)
        return (x.float() * cosine[:, None].float() + turned * sine[:, None].float()).to(x.dtype)

    batch = NativeBatch(stage.native, BLOCK, spans, kernels, stage.group)
    found = batch.attend(0, query, key, value, 0.2, None, (cosine, sine))
    expected = stage.attend_with_torch(spans, [rotated(query), rotated(key), value])
    assert (found.float() - expected.float()).abs().max() < TOLERANCE[kernels.dtype]


def test_nan_stays_nan(kernels: Kernels) -> None:
    """A broken value must be seen, not turned into a number."""
    stage = Stage(kernels, 1, 1)
    rows = stage.rows(4)
    rows[1][2] = float("nan")
    out = stage.attend([Span(0, 4, 0, [0])], rows)
    assert out[2:].isnan().all()
    assert out[:2].isfinite().all(), "rows before it don't see it"
    x = torch.full((1, 16), float("nan"), dtype=kernels.dtype)
    assert kernels.rms_norm(x, torch.ones(16, dtype=kernels.dtype), 1e-6).isnan().all()
    assert kernels.silu_mul(x.repeat(1, 2)).isnan().all()


@pytest.mark.parametrize("vocabulary", [1, 15, 256, 600, 4113])
def test_softmax_equals_torch(kernels: Kernels, vocabulary: int) -> None:
    """Largest logit, its column and the sums over chunks, at any temperature and size."""
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(7, vocabulary, generator=generator) * 8).to(kernels.dtype)
    logits[2, vocabulary // 2 :] = -torch.inf
    logits[2, 0] = 1.0
    temperatures = [1.0, 0.3, 2.0, 1.0, 1.0, 5.0, 0.01]
    found, expected = Softmax.of(logits, temperatures, kernels), Softmax.of(logits, temperatures, None)
    assert torch.equal(found.peak_B, expected.peak_B)
    assert torch.equal(found.best_B, logits.float().argmax(-1))
    assert torch.allclose(found.upper_BC, expected.upper_BC, rtol=2e-6)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_softmax_shows_what_is_not_finite(kernels: Kernels, broken: float) -> None:
    """NaN and infinity give sums that say so, wherever they stand; banned tokens don't."""
    for column in (0, 299, 300):
        logits = torch.zeros(2, 301, dtype=kernels.dtype)
        logits[0, column], logits[1, column] = broken, -torch.inf
        total = Softmax.of(logits, [1.0, 0.7], kernels).totals()
        assert total[0].isnan()
        assert total[1] == 300


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


def test_sizes_that_the_kernel_can_t_take_are_known() -> None:
    """They go to torch instead."""
    assert supports(64, 32)
    assert not supports(20, 32)
    assert not supports(64, 8)


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

"""From logits: tokens, by the engine's sampler, and logprobs of given tokens, three ways."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import sampling
from asynckit.bench.prediction import ITEMSIZE

if TYPE_CHECKING:
    import torch

    from asynckit.engine.native import Kernels

_SAMPLING = {"greedy": (0.0, 1.0), "temperature": (0.7, 1.0), "top-p": (0.7, 0.95)}  # and top_p
_SAMPLED = (("greedy", 64), ("temperature", 1), ("temperature", 64), ("top-p", 64))
_SCORED = {"cpu": 64, "cuda": 2048}


def sampling_cases(vocabulary: int, dtype: str, seed: int) -> list[Case]:
    """The engine's sampler; it ends with tokens on the host, so the host's clock is the one to look at."""
    return [
        Case(
            name="sampling",
            variant=f"{kind} B={rows} {dtype}",
            group="logits",
            make=partial(_make_sampling, kind, rows, vocabulary, dtype, seed),
            counts=sampling(rows, vocabulary, ITEMSIZE[dtype]),
            parameters={"batch": rows, "vocabulary": vocabulary, "dtype": dtype},
            clock="host",
        )
        for kind, rows in _SAMPLED
    ]


def logprob_cases(vocabulary: int, dtype: str, device: str, seed: int) -> list[Case]:
    """What a learner computes for every token of a response."""
    rows = _SCORED[device]
    return [
        Case(
            name="logprobs",
            variant=f"{way} T={rows} {dtype}",
            group="logits",
            make=partial(_make_logprobs, way, rows, vocabulary, dtype, seed),
            counts=sampling(rows, vocabulary, ITEMSIZE[dtype]),
            parameters={"rows": rows, "vocabulary": vocabulary, "dtype": dtype},
            clock="host" if way == "engine" else "",
        )
        for way in _WAYS
    ]


def _make_sampling(kind: str, rows: int, vocabulary: int, dtype: str, seed: int, device: str) -> Prepared:
    from asynckit.engine.config import SamplingParams
    from asynckit.engine.sampler import Draw, sample

    logits_BV = _logits(rows, vocabulary, dtype, seed, device)
    temperature, top_p = _SAMPLING[kind]
    params = SamplingParams(seed=seed, temperature=temperature, top_p=top_p)
    draws = [Draw(params, 0, row) for row in range(rows)]
    return Prepared(partial(sample, logits_BV, draws, _kernels(dtype, device)))


def _make_logprobs(way: str, rows: int, vocabulary: int, dtype: str, seed: int, device: str) -> Prepared:
    import torch

    logits_TV = _logits(rows, vocabulary, dtype, seed, device)
    generator = torch.Generator(device).manual_seed(seed + 1)
    token_T = torch.randint(vocabulary, (rows,), generator=generator, device=device)
    return Prepared(_WAYS[way](logits_TV, token_T))


def _log_softmax(logits_TV: "torch.Tensor", token_T: "torch.Tensor") -> Callable[[], object]:
    """The whole matrix in float32, of which one column per row is kept."""
    return lambda: logits_TV.float().log_softmax(-1).gather(1, token_T[:, None])


def _logsumexp(logits_TV: "torch.Tensor", token_T: "torch.Tensor") -> Callable[[], object]:
    """One column per row, less the row's logsumexp."""

    def gather() -> object:
        chosen = logits_TV.gather(1, token_T[:, None]).float()
        return chosen - logits_TV.float().logsumexp(-1, keepdim=True)

    return gather


def _engine(logits_TV: "torch.Tensor", token_T: "torch.Tensor") -> Callable[[], object]:
    """As the engine scores prompts; ends with numbers on the host."""
    from asynckit.engine.config import SamplingParams
    from asynckit.engine.sampler import score

    kernels = _kernels(str(logits_TV.dtype).removeprefix("torch."), logits_TV.device.type)
    return partial(score, logits_TV, token_T.tolist(), SamplingParams(), 0, kernels)


_WAYS = {"log_softmax": _log_softmax, "logsumexp": _logsumexp, "engine": _engine}


def _logits(rows: int, vocabulary: int, dtype: str, seed: int, device: str) -> "torch.Tensor":
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    # As peaked as those of a language model, whose likeliest token has most of the weight.
    return torch.randn(rows, vocabulary, generator=generator, device=device, dtype=getattr(torch, dtype)) * 4


def _kernels(dtype: str, device: str) -> "Kernels | None":
    import torch

    from asynckit.engine.native import load_kernels

    return load_kernels(getattr(torch, dtype), None) if device == "cpu" else None

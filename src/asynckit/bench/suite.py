"""Which cases there are for a device and a model, and which of them a person asked for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from asynckit.bench.cases.all_reduce import all_reduce_cases
from asynckit.bench.cases.attention import attention_cases
from asynckit.bench.cases.bandwidth import bandwidth_cases
from asynckit.bench.cases.case import Case, count_gpus
from asynckit.bench.cases.choosing import logprob_cases, sampling_cases
from asynckit.bench.cases.engine_shelf import EngineShelf
from asynckit.bench.cases.engine_steps import BATCHES, EngineCases, cache_tokens
from asynckit.bench.cases.functions import function_case, names_function
from asynckit.bench.cases.gemm import given_gemm_cases, model_gemm_cases, square_gemm_cases
from asynckit.bench.cases.launches import launch_cases
from asynckit.bench.cases.transfers import transfer_cases
from asynckit.bench.config import BenchConfig
from asynckit.bench.prediction import ITEMSIZE
from asynckit.bench.subject import Subject
from asynckit.engine.config import EngineConfig
from asynckit.errors import UsageError
from asynckit.near_miss import did_you_mean

DEFAULT_SUITE_SECONDS = 60.0
"""That the default suite may take on a CPU, roughly; see :func:`share_out`."""


class Family(NamedTuple):
    """Cases that are made together.

    Attributes:
        name: that ``--case`` knows.
        help: what it measures.
        make: the cases, for a :class:`Suite`.
    """

    name: str
    help: str
    make: Callable[["Suite"], list[Case]]


@dataclass(frozen=True)
class Suite:
    """All that cases depend on; they are made when they are asked for.

    Attributes:
        device: ``cuda`` or ``cpu``.
        find: brings the model; called only where a case needs it.
        config: whose seed and given shapes are used.
        engine: of the engine's cases.
        lora_compute: off leaves the arithmetic of adapters out wherever they are loaded.
    """

    device: str
    find: Callable[[], Subject]
    config: BenchConfig = field(default_factory=BenchConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    lora_compute: bool = True

    @cached_property
    def subject(self) -> Subject:
        """The model; raises as :func:`asynckit.bench.subject.find_subject` does."""
        return self.find()

    @cached_property
    def dtype(self) -> str:
        """That the engine runs in."""
        import torch

        from asynckit.engine.model import choose_dtype

        chosen = choose_dtype(replace(self.engine, device=self.device), torch.device(self.device))
        return str(chosen).removeprefix("torch.")

    @property
    def dtypes(self) -> list[str]:
        """Whose ceilings are measured: the engine's first, then what else the device computes in."""
        others = ("float32",) if self.device == "cpu" else tuple(ITEMSIZE)
        return list(dict.fromkeys((self.dtype, *others)))

    @cached_property
    def engine_cases(self) -> EngineCases:
        """Those that share an engine, which :meth:`close` frees."""
        return EngineCases(
            self.subject,
            self._shelf,
            self.dtype,
            self.device,
            self.config.seed,
            self._longest,
            self.lora_compute,
        )

    @cached_property
    def _shelf(self) -> EngineShelf | None:
        if self.subject.local is None:
            return None
        room = cache_tokens(self.device, self._longest, self.engine.block_size)
        return EngineShelf(
            self.subject, self.engine, kv_cache_tokens=room, batch=max(BATCHES), seed=self.config.seed
        )

    @property
    def _longest(self) -> int:
        """Tokens of a sequence in the engine."""
        models_own = self.subject.shape.max_positions
        return min(models_own, self.engine.max_model_len or models_own)

    def cases(self, patterns: Sequence[str] = ()) -> list[Case]:
        """The cases that patterns select, in the order of the patterns; the default suite without any.

        A pattern is the name of a case or group, and words that a variant must have: ``gemm``, ``"gemm qkv
        M=64"``, ``"copy *MiB"``. Or it is ``module:function``, see :mod:`asynckit.bench.cases.functions`.

        Raises:
            UsageError: a pattern selects nothing.
            InputError: a function can't be timed, or the model can't be used.
            AsynckitError: as :func:`asynckit.bench.subject.find_subject` does.
        """
        if not patterns:
            return [case for family in FAMILIES for case in family.make(self) if case.default]
        found = [case for pattern in patterns for case in self._matching(pattern)]
        return list({case.key: case for case in found}.values())

    def close(self) -> None:
        """Free what cases shared; none of them can be measured any more."""
        if "_shelf" in self.__dict__ and self._shelf:
            self._shelf.close()

    def _matching(self, pattern: str) -> list[Case]:
        if names_function(pattern):
            return [function_case(pattern)]
        name, *words = pattern.split() or [""]
        families = [family for family in FAMILIES if name in (family.name, *_GROUPS[family.name])]
        if not families:
            raise _unknown(name)
        cases = [case for family in families for case in family.make(self)]
        matching = [case for case in cases if all(_has(case.variant.split(), word) for word in words)]
        if not matching:
            raise _no_variant(name, words, cases)
        return matching


def share_out(config: BenchConfig, cases: int, seconds: float = DEFAULT_SUITE_SECONDS) -> BenchConfig:
    """Settings with which so many cases take about so many seconds together, or fewer.

    Each gets an equal share, a quarter of it to warm up. Settings that ask for less are kept.
    """
    share = seconds / max(1, cases)
    return replace(
        config,
        warmup_seconds=min(config.warmup_seconds, share / 4),
        max_seconds=min(config.max_seconds, share * 3 / 4),
    )


def _gemm(suite: Suite) -> list[Case]:
    device, seed = suite.device, suite.config.seed
    return [
        *given_gemm_cases(suite.config.gemm, suite.dtypes, device, seed),
        *model_gemm_cases(suite.subject.shape, suite.dtype, device, seed),
        *square_gemm_cases(suite.dtypes, device, seed),
    ]


def _named(name: str, make: Callable[[Suite], list[Case]]) -> Callable[[Suite], list[Case]]:
    return lambda suite: [case for case in make(suite) if case.name == name]


def _bandwidth(name: str) -> Callable[[Suite], list[Case]]:
    return lambda suite: bandwidth_cases(name, suite.device)


def _transfers(_: Suite) -> list[Case]:
    return transfer_cases()


def _attention(suite: Suite) -> list[Case]:
    return attention_cases(suite.subject.shape, suite.dtype, suite.device, suite.config.seed)


def _sampling(suite: Suite) -> list[Case]:
    return sampling_cases(suite.subject.shape.vocabulary, suite.dtype, suite.config.seed)


def _logprobs(suite: Suite) -> list[Case]:
    return logprob_cases(suite.subject.shape.vocabulary, suite.dtype, suite.device, suite.config.seed)


# In the order in which they run: those that share an engine last, and of them those that load it anew.
FAMILIES = (
    Family("gemm", "matrix products of the model, square ones, and those of bench.gemm", _gemm),
    Family("read", "bandwidth of reading over sizes: caches and memory", _bandwidth("read")),
    Family("copy", "bandwidth of copying over sizes", _bandwidth("copy")),
    Family("triad", "bandwidth of a = b + s * c over sizes", _bandwidth("triad")),
    Family("launch", "a thousand tiny kernels, eager and as a CUDA graph", lambda _: launch_cases()),
    Family("h2d", "from host to GPU, pinned and pageable", _named("h2d", _transfers)),
    Family("d2h", "from GPU to host, pinned and pageable", _named("d2h", _transfers)),
    Family("sdpa-prefill", "causal attention of a prompt, one layer", _named("sdpa-prefill", _attention)),
    Family(
        "sdpa-decode", "attention of new tokens over contexts, one layer", _named("sdpa-decode", _attention)
    ),
    Family("sampling", "the engine's sampler: greedy, temperature, top-p", _sampling),
    Family("logprobs", "logprobs of given tokens, three ways", _logprobs),
    Family("all-reduce", "sums over all GPUs", lambda suite: all_reduce_cases(count_gpus(suite.device))),
    Family("decode", "a decode step of the engine", lambda suite: suite.engine_cases.decode()),
    Family(
        "prefill", "a prompt and its first token in the engine", lambda suite: suite.engine_cases.prefill()
    ),
    Family("weight-update", "new weights into the engine", lambda suite: suite.engine_cases.update()),
    Family(
        "lora",
        "a decode step without adapters, with them, and skipped",
        lambda suite: suite.engine_cases.lora(),
    ),
)

_GROUPS = {
    **{family.name: () for family in FAMILIES},
    **dict.fromkeys(("read", "copy", "triad"), ("bandwidth",)),
    **dict.fromkeys(("h2d", "d2h", "all-reduce"), ("transfer",)),
    **dict.fromkeys(("sdpa-prefill", "sdpa-decode"), ("attention",)),
    **dict.fromkeys(("sampling", "logprobs"), ("logits",)),
    **dict.fromkeys(("decode", "prefill", "weight-update", "lora"), ("engine",)),
}


def _has(words: Iterable[str], wanted: str) -> bool:
    return any(fnmatchcase(word.lower(), wanted.lower()) for word in words)


def _unknown(name: str) -> UsageError:
    known = list(dict.fromkeys(each for name, groups in _GROUPS.items() for each in (name, *groups)))
    mend = did_you_mean(name, known) or f"there is {', '.join(known)}, and module:function"
    return UsageError(f"there is no case {name!r}", where="--case", mend=mend)


def _no_variant(name: str, words: Sequence[str], cases: Sequence[Case]) -> UsageError:
    known = list(dict.fromkeys(word for case in cases for word in case.variant.split()))
    wrong = next((word for word in words if not _has(known, word)), "")
    problem = f"has no variant with {wrong!r}" if wrong else f"has no variant with all of {', '.join(words)}"
    mend = did_you_mean(wrong, known) or f"there is {', '.join(case.variant for case in cases[:8])}, ..."
    return UsageError(f"the case {name} {problem}", where="--case", mend=mend)

"""C kernels for the CPU: compiled on first use, checked against torch, left out where either is impossible.

A wheel can't carry code for every CPU, and a compiler for this one is usually at hand, so the sources beside
this file are compiled with ``-march=native`` (about two seconds) into the user's cache and loaded with
ctypes, which lets go of the GIL during a call. They link against the OpenMP runtime that torch has already
loaded: two runtimes would keep two sets of threads spinning on the same cores.
"""

import ctypes
import functools
import hashlib
import logging
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asynckit.errors import DependencyError
from asynckit.models.cache import build_once, cache_root

SOURCES = Path(__file__).parent
# No flag lets the compiler assume that numbers are finite: a NaN must come out as a NaN.
_FLAGS = (
    *("-O3", "-march=native", "-fPIC", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math"),
    "-fno-strict-aliasing",  # pairs of bfloat16 are read as one word
)
FLAGS = {
    "kernels.c": (*_FLAGS, "-fassociative-math", "-fno-signed-zeros"),
    # nothing that may reorder sums
    "attention.c": _FLAGS,
    "sampling.c": _FLAGS,
    "lora.c": _FLAGS,
}
_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
LANES = 16  # as in vectors.h
CHUNK = 256  # as in sampling.c
_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

log = logging.getLogger(__name__)


class Pass(ctypes.Structure):
    """What the layers of a pass have in common; ``struct pass`` in attention.c."""

    _fields_ = [
        *((name, _POINTER) for name in ("tiles", "tables")),
        *((name, _INT) for name in ("count", "kv_heads", "group", "head_dim", "block_size")),
        *((name, _POINTER) for name in ("cosines", "sines")),
    ]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _POINTER) for name in ("out", "keys", "values", "query", "key", "value")),
        *((name, _INT) for name in ("query_row", "query_head", "key_row", "key_head")),
        *((name, _INT) for name in ("value_row", "value_head", "window")),
        ("scale", _FLOAT),
    ]


class Kernels:
    """The kernels for one element type."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        suffix = _SUFFIX[dtype]
        self._attend = _function(library, f"attend_{suffix}", [_POINTER, _POINTER], ctypes.c_int)
        self._softmax = {
            each: _function(library, f"softmax_{name}", [*[_POINTER] * 5, *[_INT] * 3])
            for each, name in _SUFFIX.items()
        }
        self._rms_norm = _function(
            library, f"rms_norm_{suffix}", [_POINTER, _POINTER, _POINTER, _INT, _INT, _FLOAT]
        )
        self._silu_mul = _function(library, f"silu_mul_{suffix}", [_POINTER, _POINTER, _INT, _INT])
        lora = [*[_POINTER] * 4, _INT, _INT, _INT, *[_POINTER] * 5]
        self._lora_add = _function(library, f"lora_add_{suffix}", lora, ctypes.c_int)

    def attend(
        self,
        rows: Pass,
        query_THD: torch.Tensor,
        key_TKD: torch.Tensor,
        value_TKD: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float,
        window: int,
    ) -> torch.Tensor:
        """Store the new rows' keys and values in one layer of the cache, then attend with every row.

        Args:
            rows: of the pass.
            query_THD: ``[T, H, D]``, any strides but the last.
            key_TKD: ``[T, K, D]``, likewise.
            value_TKD: ``[T, K, D]``, likewise.
            keys: the layer's part of the cache; how it is laid out is the kernel's business.
            values: likewise.
            scale: factor on the scores.
            window: how many latest tokens a row sees, itself included; 0 for all.

        Returns:
            ``[T, H, D]``.
        """
        assert query_THD.stride(2) == key_TKD.stride(2) == value_TKD.stride(2) == 1
        assert query_THD.dtype is key_TKD.dtype is value_TKD.dtype is keys.dtype is self.dtype
        out_THD = query_THD.new_empty(query_THD.shape)
        layer = _Layer(
            *(each.data_ptr() for each in (out_THD, keys, values, query_THD, key_TKD, value_TKD)),
            *(step for each in (query_THD, key_TKD, value_TKD) for step in each.stride()[:2]),
            *(window, scale),
        )
        if self._attend(ctypes.byref(rows), ctypes.byref(layer)):
            raise MemoryError("no memory for attention scores")
        return out_THD

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Llama's RMS norm over the last dimension."""
        x = x.contiguous()
        out = torch.empty_like(x)
        size = weight.numel()
        self._rms_norm(out.data_ptr(), x.data_ptr(), weight.data_ptr(), x.numel() // size, size, epsilon)
        return out

    def silu_mul(self, x: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` where the last dimension of ``x`` holds gates and then ups."""
        assert x.is_contiguous()
        size = x.shape[-1] // 2
        out = x.new_empty(*x.shape[:-1], size)
        self._silu_mul(out.data_ptr(), x.data_ptr(), out.numel() // size, size)
        return out

    def softmax(
        self, logits_BV: torch.Tensor, temperature_B: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Each row's softmax over its temperature, taken apart.

        Args:
            logits_BV: ``[B, V]``, float32 or bfloat16 whatever these kernels are for.
            temperature_B: float32.

        Returns:
            The largest logit over temperature ``[B]``, its first column ``[B]``, and over chunks of
            :data:`CHUNK` columns the cumulative sums ``[B, C]`` (float64) of ``exp(logit / temperature -
            largest)``. NaN and +inf make the sums NaN.
        """
        assert logits_BV.stride(1) == 1
        assert temperature_B.dtype is torch.float32
        rows, size = logits_BV.shape
        peak_B = torch.empty(rows)
        best_B = torch.empty(rows, dtype=torch.long)
        upper_BC = torch.empty(rows, -(-size // CHUNK), dtype=torch.float64)
        self._softmax[logits_BV.dtype](
            *(each.data_ptr() for each in (peak_B, best_B, upper_BC, logits_BV, temperature_B)),
            *(rows, logits_BV.stride(0), size),
        )
        return peak_B, best_B, upper_BC

    def lora_add(
        self,
        out_TO: torch.Tensor,
        x_TI: torch.Tensor,
        row_R: torch.Tensor,
        slot_R: torch.Tensor,
        column_P1: torch.Tensor,
        down_SP: torch.Tensor,
        up_SP: torch.Tensor,
        rank_SP: torch.Tensor,
        scale_SP: torch.Tensor,
    ) -> None:
        """Add to rows of ``out_TO`` what their adapters make of the same rows of ``x_TI``.

        Args:
            out_TO: outputs of P layers side by side.
            x_TI: their common input.
            row_R: the rows to change.
            slot_R: the adapter slot of each.
            column_P1: where each layer's columns begin, and where the last one's end.
            down_SP: addresses of the ``[rank, in]`` matrices by slot and layer.
            up_SP: addresses of the ``[rank, out]`` matrices.
            rank_SP: their ranks; 0 where the adapter leaves the layer alone.
            scale_SP: factors, float32.
        """
        assert out_TO.is_contiguous()
        assert x_TI.is_contiguous()
        failed = self._lora_add(
            *(out_TO.data_ptr(), x_TI.data_ptr(), row_R.data_ptr(), slot_R.data_ptr(), len(row_R)),
            *(x_TI.shape[-1], len(column_P1) - 1, column_P1.data_ptr(), down_SP.data_ptr(), up_SP.data_ptr()),
            *(rank_SP.data_ptr(), scale_SP.data_ptr()),
        )
        if failed:
            raise MemoryError("no memory for an adapter's delta")


def supports(head_dim: int, block_size: int) -> bool:
    """Whether the attention kernel takes heads and blocks of these sizes."""
    return head_dim % LANES == 0 and block_size % LANES == 0


def load_kernels(dtype: torch.dtype, cache_dir: str | None) -> Kernels | None:
    """The kernels for an element type; None where there are none for it or they can't be built here.

    That they are missing costs speed, never correctness, so it is logged and no error.
    """
    library = _library(cache_root(cache_dir)) if dtype in _SUFFIX else None
    return Kernels(library, dtype) if library else None


@functools.cache
def _library(cache: Path) -> ctypes.CDLL | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.info("no C compiler found: the CPU kernels are left out, decoding is slower")
        return None
    folder = cache / "native" / _fingerprint(compiler)
    try:
        build_once(
            folder, lambda partial: _compile(compiler, partial), doing="compiling kernels", wait_seconds=120
        )
        return ctypes.CDLL(str(folder / "kernels.so"))
    except (DependencyError, OSError, subprocess.SubprocessError) as error:
        log.warning("the CPU kernels can't be used, decoding is slower: %s", error)
        return None


def _compile(compiler: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run = functools.partial(subprocess.run, check=True, capture_output=True, timeout=100)
    objects = []
    for name, flags in FLAGS.items():
        objects.append(str((folder / name).with_suffix(".o")))
        run([compiler, *flags, "-c", str(SOURCES / name), "-o", objects[-1]])
    runtimes = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    openmp = [str(path) for path in runtimes] or ["-fopenmp"]
    run([compiler, "-shared", *objects, *openmp, "-o", str(folder / "kernels.so")])


def _fingerprint(compiler: str) -> str:
    """Changes with everything that changes the binary: source, flags, compiler, CPU, torch."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False, timeout=20).stdout
    cpu = Path("/proc/cpuinfo")
    flags = next(
        (line for line in cpu.read_text().splitlines() if line.startswith(("flags", "Features"))), ""
    )
    sources = [path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))]
    texts = (repr(FLAGS), flags, platform.machine(), torch.__version__)
    parts = (*sources, version, *(text.encode() for text in texts))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _function(
    library: ctypes.CDLL, name: str, arguments: list[Any], result: Any = None
) -> Callable[..., Any]:
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, result
    return function  # type: ignore[no-any-return]

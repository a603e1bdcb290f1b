"""Reports of ``bench-cuda`` as an H100 might give them: made by hand, measured nowhere."""

from typing import Any

from asynckit.bench.results import Ceilings, Prediction, Report, Row, Timing

H100_ENVIRONMENT: dict[str, Any] = {
    "system": {"os": "Linux-6.8.0-x86_64", "python": "3.11.9"},
    "cpu": {"model": "Intel(R) Xeon(R) Platinum 8480C", "cores": 16, "governor": "performance"},
    "memory": {"total_bytes": 128 * 2**30},
    "torch": {"version": "2.11.0+cu130", "cuda": "13.0"},
    "gpu": {"name": "NVIDIA H100 80GB HBM3", "driver": "580.95.05", "ecc": True, "sensors": "NVML"},
}


def made_timing(median: float = 1e-3, **changes: Any) -> Timing:
    """A timing whose repetitions lie within 4 % of the median."""
    samples = tuple(median * (0.98 + 0.001 * (at * 7 % 41)) for at in range(41))
    known: dict[str, Any] = {
        "median": median,
        "low": median * 0.995,
        "high": median * 1.005,
        "p5": median * 0.982,
        "p95": median * 1.018,
        "minimum": median * 0.98,
        "relative_error": 0.005,
        "repetitions": 41,
        "calls": 1,
        "warmup": 5,
        "outliers": 0.0,
        "drift": 0.001,
        "converged": True,
        "clock": "events",
        "cache": "cold",
        "samples": samples,
    }
    return Timing(**known | changes)


def made_row(case: str = "gemm", variant: str = "", median: float = 1e-3, **changes: Any) -> Row:
    """A row on the GPU that was measured."""
    known: dict[str, Any] = {"group": "gemm", "device": "cuda", "timing": made_timing(median)}
    return Row(case=case, variant=variant, **known | changes)


def made_report(**changes: Any) -> Report:
    """GEMMs, copies over sizes on both sides of the L2 cache, a row that is doubted, and one not measured."""
    known: dict[str, Any] = {
        "asynckit": "0.1.0",
        "begun": "2026-11-20T09:30:00Z",
        "device": "cuda",
        "environment": H100_ENVIRONMENT,
        "settings": {"bench": {"clock": "events", "cache": "cold", "confidence": 0.95}},
        "rows": (*_gemms(), *_copies(), *_others()),
        "ceilings": Ceilings(flops_per_second={"bfloat16": 7.0e14}, bytes_per_second=2.8e12),
        "predictions": (
            Prediction(what="decode batch=8", predicted=21_000.0, measured=15_300.0, bound_by="memory"),
            Prediction(what="prefill 2048", predicted=1.9e6, measured=None, bound_by="compute"),
        ),
    }
    return Report(**known | changes)


def _gemms() -> list[Row]:
    """Of a layer that multiplies by 4096 x 4096, at 60 % of what the roofline allows."""
    rows = []
    for tokens in (1, 8, 64, 2048):
        flops, moved = 2.0 * tokens * 4096**2, 2.0 * (4096**2 + 2 * tokens * 4096)
        median = max(flops / 7.0e14, moved / 2.8e12) / 0.6
        parameters = {"m": tokens, "n": 4096, "k": 4096, "dtype": "bfloat16"}
        row = made_row(
            "gemm", f"o M={tokens} bfloat16", median, flops=flops, bytes=moved, parameters=parameters
        )
        rows.append(row)
    return rows


def _copies() -> list[Row]:
    rows = []
    for power in range(20, 33, 2):
        moved = 2.0 * 2**power
        rate = 5.2e12 if moved < 40e6 else 2.8e12
        row = made_row("copy", f"{2**power >> 10} KiB", 2e-6 + moved / rate, bytes=moved, group="bandwidth")
        rows.append(row)
    return rows


def _others() -> list[Row]:
    doubted = made_row(
        "decode",
        "batch=8",
        5.2e-4,
        group="engine",
        tokens=8.0,
        peak_memory_bytes=1_300_000_000,
        trusted=False,
        doubts=("throttled (power cap) for 40% of the time",),
    )
    missing = Row(
        case="all-reduce",
        variant="64 MiB",
        group="transfer",
        device="cuda",
        timing=None,
        reason="needs several GPUs",
    )
    return [doubted, missing]

"""What a model could do at best on this device, from the ceilings that were measured there.

Every part of a pass takes the longer of what its arithmetic and what its bytes need (the roofline model,
Williams et al. 2009), and parts follow one another. Launches, sampling and all that the host does count as
nothing, so this is a bound from above: a measured speed below it is what an engine has still to win.
"""

from collections.abc import Iterable

from asynckit.bench.counting import Part, decode_parts, prefill_parts
from asynckit.bench.results import Ceilings, Prediction, Row
from asynckit.bench.shapes import ModelShape

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
# Bytes of each array whose bandwidth is measured. The largest exceed all but the largest caches of servers.
SIZES = {
    "cpu": tuple(2**16 * 4**step for step in range(7)),
    "cuda": tuple(2**16 * 2**step for step in range(15)),
}


def find_ceilings(rows: Iterable[Row]) -> Ceilings:
    """The most operations per second of any product, by dtype, and the memory's bandwidth.

    That is the fastest of the reads, copies and triads of the largest size, which no cache holds; none where
    only smaller ones were measured.
    Rows need ``parameters["dtype"]`` (of ``gemm``) and ``parameters["bytes_each"]`` (of the others).
    """
    flops: dict[str, float] = {}
    streams: list[float] = []
    for row in rows:
        if row.timing is None or not row.timing.median:
            continue
        if row.case == "gemm" and row.flops:
            dtype = str(row.parameters["dtype"])
            flops[dtype] = max(flops.get(dtype, 0.0), row.flops / row.timing.median)
        elif row.group == "bandwidth" and row.bytes and _is_largest(row):
            streams.append(row.bytes / row.timing.median)
    return Ceilings(flops_per_second=flops, bytes_per_second=max(streams, default=None))


def _is_largest(row: Row) -> bool:
    return bool(row.parameters["bytes_each"] == SIZES[row.device][-1])


def predict(
    shape: ModelShape, dtype: str, ceilings: Ceilings, rows: Iterable[Row] = ()
) -> tuple[Prediction, ...]:
    """Tokens per second of every decode and prefill that was measured; of usual ones where none was.

    Args:
        shape: of the model.
        dtype: of its weights and arithmetic.
        ceilings: of the device.
        rows: measured ones, of which the cases ``decode`` and ``prefill`` are taken.

    Returns:
        Nothing where a ceiling is missing, or for a mixture of experts, of whose weights a step reads as many
        as its tokens happen to choose.
    """
    peak, bandwidth = ceilings.flops_per_second.get(dtype), ceilings.bytes_per_second
    if not peak or not bandwidth or shape.experts:
        return ()
    wanted = _wanted(rows, shape.max_positions)
    return tuple(
        _prediction(kind, batch, tokens, _parts(kind, shape, batch, tokens, ITEMSIZE[dtype]), roof, measured)
        for (kind, batch, tokens), measured in wanted.items()
        for roof in [(peak, bandwidth)]
    )


def seconds(part: Part, peak: float, bandwidth: float) -> float:
    """The least that a part takes."""
    return max(part.flops / peak, part.bytes / bandwidth)


def _wanted(rows: Iterable[Row], longest: int) -> dict[tuple[str, int, int], float | None]:
    """(decode or prefill, batch, tokens of context or prompt): measured tokens per second."""
    wanted: dict[tuple[str, int, int], float | None] = {}
    for row in rows:
        if row.case in ("decode", "prefill"):
            batch, tokens = int(row.parameters["batch"]), int(row.parameters["context"])
            speed = row.tokens / row.timing.median if row.timing and row.tokens else None
            wanted[row.case, batch, tokens] = speed
    usual = [("decode", batch, min(512, longest)) for batch in (1, 8, 64)]
    return wanted or dict.fromkeys([*usual, ("prefill", 1, min(512, longest))])


def _parts(kind: str, shape: ModelShape, batch: int, tokens: int, itemsize: int) -> tuple[Part, ...]:
    if kind == "decode":
        return decode_parts(shape, batch, tokens, itemsize)
    return prefill_parts(shape, tokens, itemsize)


def _prediction(
    kind: str,
    batch: int,
    tokens: int,
    parts: tuple[Part, ...],
    roof: tuple[float, float],
    measured: float | None,
) -> Prediction:
    peak, bandwidth = roof
    needed = sum(seconds(part, peak, bandwidth) for part in parts)
    by_memory = sum(
        seconds(part, peak, bandwidth) for part in parts if part.bytes / bandwidth >= part.flops / peak
    )
    what = f"decode batch={batch} context={tokens}" if kind == "decode" else f"prefill tokens={tokens}"
    return Prediction(
        what=what,
        predicted=(batch if kind == "decode" else tokens) / needed,
        measured=measured,
        bound_by="memory" if by_memory * 2 >= needed else "compute",
    )

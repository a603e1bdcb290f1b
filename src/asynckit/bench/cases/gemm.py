"""Matrix products: those of a model, square ones that find the ceiling, and given ones."""

from collections.abc import Iterable, Sequence
from functools import partial

from asynckit.bench.cases.case import Case, Prepared
from asynckit.bench.counting import gemm
from asynckit.bench.prediction import ITEMSIZE
from asynckit.bench.shapes import ROWS, ModelShape, Product, products, read_product

_SQUARES = {"cpu": (512, 1024, 2048), "cuda": (1024, 2048, 4096, 8192)}
_BY_SIZES = ("square", "given")  # the others are known by their names
_MOST_CPU_FLOPS = 1e10  # tens of milliseconds; larger ones are measured when asked for


def model_gemm_cases(shape: ModelShape, dtype: str, device: str, seed: int) -> list[Case]:
    """Every product of a model's pass, for a decoding sequence up to a prefill of 2,048 tokens.

    On a CPU the weights are packed as the engine packs them, which is what its steps run.
    """
    sizes = [(rows, product) for product in products(shape) for rows in ROWS]
    return [_case(rows, product, dtype, device, seed, packed=device == "cpu") for rows, product in sizes]


def square_gemm_cases(dtypes: Sequence[str], device: str, seed: int) -> list[Case]:
    """Products large enough to keep all of a device busy: the roof that others are held against."""
    sizes = [(size, dtype) for dtype in dtypes for size in _SQUARES[device]]
    return [
        _case(size, Product("square", size, size), dtype, device, seed, packed=False) for size, dtype in sizes
    ]


def given_gemm_cases(given: Iterable[str], dtypes: Sequence[str], device: str, seed: int) -> list[Case]:
    """Products of ``bench.gemm``; raises ConfigError for what is no shape."""
    sizes = [(*read_product(text), dtype) for text in given for dtype in dtypes]
    return [_case(rows, product, dtype, device, seed, packed=False) for rows, product, dtype in sizes]


def _case(rows: int, product: Product, dtype: str, device: str, seed: int, *, packed: bool) -> Case:
    packed = packed and dtype in ("float32", "bfloat16")
    counts = gemm(rows, product, ITEMSIZE[dtype])
    assert counts.flops is not None
    sizes = {"M": rows, "N": product.outputs, "K": product.inputs}
    shown = f"M={rows}" if product.name not in _BY_SIZES else "x".join(map(str, sizes.values()))
    return Case(
        name="gemm",
        variant=f"{product.name} {shown} {dtype}",
        group="gemm",
        make=partial(_make, rows, product, dtype, seed, packed),
        counts=counts,
        parameters={**sizes, "dtype": dtype, "product": product.name, "packed": packed},
        default=device == "cuda" or product.name == "given" or counts.flops <= _MOST_CPU_FLOPS,
    )


def _make(rows: int, product: Product, dtype: str, seed: int, packed: bool, device: str) -> Prepared:
    import torch

    generator = torch.Generator(device).manual_seed(seed)
    options = {"generator": generator, "device": device, "dtype": getattr(torch, dtype)}
    x = torch.randn(rows, product.inputs, **options)
    # Of a size at which float16 doesn't overflow; GPUs draw less power, and clock higher, on zeros.
    weight = torch.randn(product.outputs, product.inputs, **options) * product.inputs**-0.5
    if packed and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        from asynckit.engine.linear import PackedLinear

        return Prepared(partial(PackedLinear(weight, None), x))
    return Prepared(partial(torch.nn.functional.linear, x, weight))

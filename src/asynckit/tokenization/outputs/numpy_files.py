"""Shards as ``.npy`` files, which ``numpy.load(…, mmap_mode="r")`` maps into memory.

Without packing: the tokens ``[tokens]``, and where sequences begin and end ``[sequences + 1]``. Packed: the
tokens ``[sequences, pack_length]``, and the stretches of documents in them ``[segments, 2]``: position of the
first token in the flattened array, and how many there are.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from asynckit.tokenization.outputs.hashed_files import hashed_file
from asynckit.tokenization.outputs.parts import Part

if TYPE_CHECKING:
    from asynckit.tokenization.outputs.shards import Assembly


def write_numpy_files(assembly: "Assembly") -> None:
    """Write ``.npy``, ``.offsets.npy`` or ``.segments.npy``, and ``.loss_mask.npy`` where there is a mask.

    Raises:
        DamagedPart: a part is missing or torn.
        WorkFailed: the disk refuses.
    """
    shape = _shape(assembly)
    _write(assembly, ".npy", assembly.settings.dtype, shape, lambda part, _: part.tokens, check=True)
    if assembly.settings.pack_length is None:
        _write_offsets(assembly)
    else:
        segments = sum(header.segments for header in assembly.headers)
        _write(assembly, ".segments.npy", np.dtype("<i8"), (segments, 2), _segments)
    write_loss_mask(assembly)


def write_loss_mask(assembly: "Assembly") -> None:
    """Write ``.loss_mask.npy`` where there is a loss mask: uint8, one per token, in the shape of the tokens.

    Raises:
        DamagedPart: a part is missing or torn.
        WorkFailed: the disk refuses.
    """
    if assembly.settings.loss_mask:
        flat = assembly.settings.format == "megatron"
        shape = (assembly.total("tokens"),) if flat else _shape(assembly)
        _write(assembly, ".loss_mask.npy", np.dtype("|u1"), shape, lambda part, _: mask_of(part))


def mask_of(part: Part) -> NDArray[np.uint8]:
    """A part's loss mask; a unit without tokens may have none."""
    if part.loss_mask is None:
        assert not len(part.tokens), "tokens without a loss mask among tokens with one"
        return np.zeros(0, np.uint8)
    return part.loss_mask


def _shape(assembly: "Assembly") -> tuple[int, ...]:
    tokens, length = assembly.total("tokens"), assembly.settings.pack_length
    if length is None:
        return (tokens,)
    assert tokens == length * assembly.total("lengths"), "packed sequences are all of one length"
    return (tokens // length, length)


def _write_offsets(assembly: "Assembly") -> None:
    shape = (assembly.total("lengths") + 1,)
    with hashed_file(assembly.file(".offsets.npy"), assembly.files) as file:
        file.write(_header(np.dtype("<i8"), shape))
        file.write_array(np.zeros(1, "<i8"))
        for part, _, first_token in assembly.each():
            file.write_array(first_token + np.cumsum(part.lengths))


def _segments(part: Part, first_token: int) -> NDArray[np.int64]:
    filled = part.span_tokens > 0
    return np.stack([first_token + part.span_firsts[filled], part.span_tokens[filled]], axis=1)


def _write(
    assembly: "Assembly",
    ending: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    piece: Callable[[Part, int], NDArray[Any]],
    *,
    check: bool = False,
) -> None:
    with hashed_file(assembly.file(ending), assembly.files) as file:
        file.write(_header(dtype, shape))
        for part, _, first_token in assembly.each(check=check):
            file.write_array(piece(part, first_token))


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A header of version 1.0, which numpy pads so that the numbers begin at a multiple of 64."""
    stream = io.BytesIO()
    description = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, description)
    return stream.getvalue()

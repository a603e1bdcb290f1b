"""The folder of a LoRA adapter: where its weights are, checked without reading them and without torch."""

from pathlib import Path

from asynckit.errors import InputError
from asynckit.models.local import check_safetensors

WEIGHTS = "adapter_model.safetensors"


def weights_file(folder: Path) -> Path:
    """The adapter's weights; pickled ones are never opened.

    Raises:
        InputError: there is no such file, or it is no whole safetensors file.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise _no_weights(folder)
    check_safetensors(path)
    return path


def _no_weights(folder: Path) -> InputError:
    pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if not pickled:
        return InputError(
            f"the folder has no {WEIGHTS}",
            where=str(folder),
            mend="save the adapter with PEFT's save_pretrained",
        )
    return InputError(
        f"the folder has no {WEIGHTS}: {pickled[0]} is pickled and never loaded, because that can run code",
        where=str(folder),
        mend="if you trust it, convert it: load it with PEFT once and call save_pretrained",
    )

"""Local model folders: what must be in one, and a digest that tells two apart."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asynckit.errors import InputError, ModelNotFound

_SAMPLES = 256
_SAMPLE_BYTES = 4096
_LONGEST_HEADER = 100_000_000  # the bound of the safetensors format itself
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine.

    Attributes:
        name: as the person named it.
        path: folder with ``config.json`` and safetensors weights.
        digest: 64 hex digits over ``config.json`` and samples of every weight file; the same on every
            machine.
    """

    name: str
    path: Path
    digest: str


def open_model(name: str, folder: Path) -> LocalModel:
    """Check that ``folder`` holds a whole model and take its digest.

    Raises:
        ModelNotFound: ``config.json`` or a weight file is missing.
        InputError: a file is there but broken.
    """
    weights = weight_files(folder)
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        check_safetensors(path)
        digest.update(f"{path.name} {sampled_digest(path)}\n".encode())
    return LocalModel(name, folder, digest.hexdigest())


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model in ``folder``, sorted by name."""
    if not (folder / "config.json").is_file():
        raise _no_config(folder)
    index = folder / _INDEX
    names = _shards(index) if index.is_file() else ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise _no_weights(folder, missing)
    return [folder / name for name in names]


def _shards(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(
            "the index names no weight files", where=str(index), mend="save or fetch the model again"
        )
    return sorted(set(map(str, weight_map.values())))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; InputError with line and column where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise InputError(
            f"not valid JSON: {error.msg}", where=where, mend="save or fetch the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8 text", where=str(path), mend="save or fetch the file again") from error
    if not isinstance(content, dict):
        raise InputError("not a JSON object", where=str(path), mend="save or fetch the file again")
    return content


def _no_config(folder: Path) -> ModelNotFound:
    if (folder / "adapter_config.json").is_file():
        return ModelNotFound(
            f"{folder} holds a LoRA adapter, not a whole model",
            mend="name the base model and load the folder as an adapter",
        )
    return ModelNotFound(
        f"{folder} has no config.json",
        mend="name the folder that the model was saved to, with config.json and model.safetensors in it",
    )


def _no_weights(folder: Path, missing: list[str]) -> ModelNotFound:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        return ModelNotFound(
            f"{folder} has pickled weights only, which are never loaded because they can run code",
            mend="if you trust them, load them once with transformers and save_pretrained them",
        )
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return ModelNotFound(
        f"{folder} has no {missing[0]}{more}", mend="save or fetch the model's weights again"
    )


def check_safetensors(path: Path) -> None:
    """Refuse what is cut off, a git-lfs pointer, or no safetensors file; reads the header only."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if start.startswith(b"version "):
            raise InputError("a git-lfs pointer, not the weights", where=str(path), mend="git lfs pull")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise _broken(path)
        expected = 8 + length + _data_bytes(path, file.read(length))
    if size != expected:
        raise InputError(
            f"holds {size} bytes where its header says {expected}", where=str(path), mend="fetch it again"
        )


def _data_bytes(path: Path, header: bytes) -> int:
    try:
        tensors = json.loads(header)
        return max(
            (entry["data_offsets"][1] for key, entry in tensors.items() if key != "__metadata__"), default=0
        )
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise _broken(path) from error


def _broken(path: Path) -> InputError:
    return InputError(
        "not a safetensors file, or cut off", where=str(path), mend="save or fetch the file again"
    )


def sampled_digest(path: Path) -> str:
    """Digest of a large file from its size and 256 evenly spaced blocks of 4 KiB: 64 hex digits.

    Training changes nearly every block of a weight file, so two models that differ are told apart; a
    deliberate edit between the blocks is not seen.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    step = max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
    with path.open("rb", buffering=0) as file:
        for offset in (*range(0, size, step), max(0, size - _SAMPLE_BYTES)):
            file.seek(offset)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()

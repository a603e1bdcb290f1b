"""Which folders adapters and weights may be read from while the server runs."""

from collections.abc import Iterable
from pathlib import Path

from asynckit.serve.api.errors import ApiError

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def allowed_folder(path: str, roots: Iterable[str], setting: str, param: str) -> Path:
    """The folder, without links in its path.

    Raises:
        ApiError: 403 where it is not below one of the roots, 400 where it is none.
    """
    if "\0" in path:
        raise ApiError(400, "a path can't have a NUL character", param=param)
    resolved = [Path(root).expanduser().resolve() for root in roots]
    if not resolved:
        raise ApiError(
            403, f"no folder is allowed: the server has no {setting}", code="no_roots", param=param
        )
    try:
        folder = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # such as links in a circle
        raise ApiError(400, f"the folder can't be used: {_reason(error)}", param=param) from error
    if not any(folder.is_relative_to(root) and folder != root for root in resolved):
        raise ApiError(403, f"the folder is not below one of {setting}", code="outside_roots", param=param)
    if not folder.is_dir():
        raise ApiError(400, "there is no such folder", param=param)
    outside = [each.name for each in folder.iterdir() if not each.resolve().is_relative_to(folder)]
    if outside:
        message = f"{outside[0]} in the folder is a link to somewhere else"
        raise ApiError(403, message, code="outside_roots", param=param)
    return folder


def adapter_folder(path: str, roots: Iterable[str]) -> Path:
    """The same for an adapter, which must be there as safetensors."""
    folder = allowed_folder(path, roots, "serve.lora_roots", "lora_path")
    missing = [name for name in _ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        message = f"the folder has no {missing[0]}; adapters are read from safetensors only"
        raise ApiError(400, message, param="lora_path")
    return folder


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else "links in a circle"

"""Which files of a folder are data: decided by their names alone, the same here and in a store.

Folders that ``datasets`` saved and snapshots of the Hub have files beside their data, and data that is not
meant for training.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from asynckit.errors import InputError, UsageError
from asynckit.tokenization.inputs.names import FORMATS, kind_by_name

_DESCRIPTIONS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json"}
)
_EVALUATION = {"test": "test", "validation": "validation", "valid": "validation", "val": "validation"}
_EVALUATION |= {"dev": "validation", "eval": "evaluation"}
_SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?=[-_.\d]|$)")


def data_files(folder: str, paths: Sequence[str], input_format: str) -> list[str]:
    """The files to read, sorted.

    Args:
        folder: as the person named it, for messages.
        paths: of all its files, relative to it, with ``/``.
        input_format: ``auto``, or the format that all inputs are said to have.

    Raises:
        InputError: there is none that can be read, or the rows of a saved dataset are not in order.
        UsageError: training and evaluation data lie side by side.
    """
    seen = sorted(path for path in paths if not any(part.startswith(".") for part in path.split("/")))
    kept = [path for path in seen if _is_data(path, seen) and _is_of(path, input_format)]
    if input_format == "auto" and any(kind_by_name(path).format != "text" for path in kept):
        # A README beside data is no document.
        kept = [path for path in kept if kind_by_name(path).format != "text"]
    if not kept:
        raise _nothing(folder, seen, input_format)
    _refuse_several_splits(folder, kept)
    return kept


def _is_of(path: str, input_format: str) -> bool:
    by_name = kind_by_name(path).format
    if input_format == "auto":
        return bool(by_name)
    return (
        input_format == "text"
        or by_name in {"", input_format}
        or {by_name, input_format} == {"json", "jsonl"}
    )


def _is_data(path: str, paths: Sequence[str]) -> bool:
    name = PurePosixPath(path).name
    if name in _DESCRIPTIONS:
        return False
    beside = [str(PurePosixPath(path).with_name(other)) for other in ("state.json", "indices.arrow")]
    if name.endswith(".arrow") and beside[1] in paths and beside[0] in paths:
        mend = "load it with datasets, call flatten_indices(), and save it again"
        raise InputError("the dataset was saved with a separate order of its rows", where=path, mend=mend)
    # What datasets keeps of map and filter lies beside what it saved.
    return not (name.startswith(("cache-", "tmp")) and beside[0] in paths)


def _refuse_several_splits(folder: str, paths: Sequence[str]) -> None:
    splits = {split: path for path in reversed(paths) for split in _splits_of(path)}
    if "train" not in splits or len(splits) == 1:
        return
    train = PurePosixPath(splits["train"])
    one = train.parts[0] if len(train.parts) > 1 and _SPLIT.fullmatch(train.parts[0]) else None
    example = f"{folder}/{one}" if one else f"{folder}/{train.with_name(f'train*{train.suffix}')}"
    raise UsageError(
        f"the folder holds several splits: {', '.join(sorted(splits))}",
        where=folder,
        mend=f"name what to read, such as {example}; a glob over all files reads them all",
    )


def _splits_of(path: str) -> set[str]:
    found = (_SPLIT.match(part) for part in path.split("/"))
    return {_EVALUATION.get(match[1], match[1]) for match in found if match}


def _nothing(folder: str, paths: Sequence[str], input_format: str) -> InputError:
    known = ", ".join(FORMATS)
    if not paths:
        return InputError("the folder holds no files", where=folder, mend=f"it needs one of {known}")
    endings = sorted({PurePosixPath(path).suffix or PurePosixPath(path).name for path in paths})
    mend = f"it needs one of {known}; or say what its files are: --input-format text"
    wanted = "that can be read" if input_format == "auto" else f"of {input_format}"
    return InputError(
        f"the folder holds no files {wanted}, only {', '.join(endings[:8])}", where=folder, mend=mend
    )

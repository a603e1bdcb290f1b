"""The two small files that let ``datasets.load_from_disk`` open an output of Arrow shards."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asynckit.disk import whole_file

STATE = "state.json"
INFO = "dataset_info.json"


def write_dataset_state(folder: Path, shards: Sequence[tuple[str, str]]) -> None:
    """Write what ``Dataset.save_to_disk`` writes beside its shards.

    Args:
        folder: of the output.
        shards: name and SHA-256 of each Arrow file, in order.

    Raises:
        WorkFailed: the disk refuses.
    """
    # The library names its caches by the fingerprint, so it has to change with the data.
    digests = "".join(digest for _, digest in shards)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name, _ in shards],
        "_fingerprint": hashlib.sha256(digests.encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    for name, content in ((STATE, state), (INFO, {})):
        with whole_file(folder / name) as file:
            file.write(json.dumps(content, indent=2).encode() + b"\n")

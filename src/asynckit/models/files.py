"""Which files of a model are wanted: patterns over paths relative to the model's folder.

Pickled weights (``*.bin``, ``*.pt``, ``*.pth``) are in no pattern: loading one runs code that its author
chose.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

_DESCRIPTION = ("*.json", "*.jinja")
_VOCABULARY = ("*.model", "*.txt", "*.tiktoken")
_WEIGHTS = ("*.safetensors",)
_CODE = ("*.py",)
# Trainers and exporters keep other formats in sub-folders; Mistral ships the same weights twice. Folders that
# end in g are let through for 1_Pooling/config.json, which says how embeddings are made.
_NOT_WANTED = ("*/*.safetensors", "*[!g]/*.json", "*/*.model", "*/*.txt", "consolidated*.safetensors")


@dataclass(frozen=True)
class Selection:
    """Files that match one of ``allow`` and none of ``ignore`` (fnmatch; ``*`` matches ``/`` as well)."""

    allow: tuple[str, ...] = ("*",)
    ignore: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether the file at this relative path is wanted."""
        return any(fnmatchcase(path, pattern) for pattern in self.allow) and not any(
            fnmatchcase(path, pattern) for pattern in self.ignore
        )


def model_files(*, code: bool) -> Selection:
    """Configuration, tokenizer and safetensors weights; Python files only where ``code`` is trusted."""
    return Selection(_DESCRIPTION + _VOCABULARY + _WEIGHTS + (_CODE if code else ()), _NOT_WANTED)


def tokenizer_files(*, code: bool) -> Selection:
    """What a tokenizer needs: everything of a model but its weights."""
    return Selection(_DESCRIPTION + _VOCABULARY + (_CODE if code else ()), _NOT_WANTED)

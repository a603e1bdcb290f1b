"""What is left of a tokenizer of transformers once it is loaded, and how it is kept for the next process.

Most tokenizers are, after all that transformers does to load them, a tokenizer of the Rust library with a
few settings. Those parts are all that encoding, decoding and chat templates need, and they load in a tenth
of the time. They are taken from the tokenizer that transformers made, so they are right by construction, and
kept in the cache under a digest of the tokenizer's files and of the libraries' versions.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from asynckit.errors import DependencyError
from asynckit.models.cache import build_once, cache_root
from asynckit.models.config import ModelConfig
from asynckit.models.files import tokenizer_files
from asynckit.models.local import LocalModel
from asynckit.models.resolve import resolve_tokenizer
from asynckit.models.tokenizer import load_tokenizer, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMAT = "1"
_WAIT_SECONDS = 60.0
# A class that changes one of these is more than its parts.
_METHODS = (
    *("__call__", "_encode_plus", "decode", "_decode", "clean_up_tokenization"),
    *("apply_chat_template", "get_chat_template", "set_truncation_and_padding"),
)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizerParts:
    """What decides about ids, text and chats.

    Attributes:
        backend: of the Rust library, without truncation and padding.
        special_tokens: that chat templates see, such as ``bos_token``.
        chat_template: one, or several by name.
        cleans: whether decoding removes the spaces before punctuation, as BERT's tokenizers ask for.
    """

    backend: Tokenizer
    special_tokens: dict[str, str]
    chat_template: str | dict[str, str] | None
    cleans: bool

    def save(self, folder: Path) -> None:
        """Write them into an empty or partly written folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"), pretty=False)
        rest = {
            "special_tokens": self.special_tokens,
            "chat_template": self.chat_template,
            "cleans": self.cleans,
        }
        (folder / "rest.json").write_text(json.dumps(rest))

    @classmethod
    def open(cls, folder: Path) -> "TokenizerParts":
        """Read what :meth:`save` wrote."""
        rest = json.loads((folder / "rest.json").read_text())
        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), **rest)


def parts_of(tokenizer: "PreTrainedTokenizerBase") -> TokenizerParts | None:
    """The parts of a loaded tokenizer; None if its class does more than they can tell."""
    from transformers import TokenizersBackend

    kind = type(tokenizer)
    if not isinstance(tokenizer, TokenizersBackend) or tokenizer.split_special_tokens:
        return None
    if any(getattr(kind, name) is not getattr(TokenizersBackend, name) for name in _METHODS):
        return None
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # a copy that can be changed
    backend.no_truncation()
    backend.no_padding()
    special_tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return TokenizerParts(backend, special_tokens, tokenizer.chat_template, _cleans(tokenizer))


def _cleans(tokenizer: Any) -> bool:
    """Whether ``_decode`` cleans: BPE tokenizers do not, whatever their configuration says."""
    forced = tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
    is_bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    return bool(tokenizer.clean_up_tokenization_spaces and (forced or not is_bpe))


def load_parts(
    config: ModelConfig, model: LocalModel | None = None
) -> "TokenizerParts | PreTrainedTokenizerBase":
    """The parts of the model's tokenizer, from the cache if they are there; else the tokenizer itself.

    Raises as :func:`asynckit.models.tokenizer.load_tokenizer` does.
    """
    if config.trust_remote_code:
        tokenizer = load_tokenizer(model, config)
        return parts_of(tokenizer) or tokenizer
    folder = resolve_tokenizer(config) if config.tokenizer or model is None else model.path
    kept = cache_root(config.cache_dir) / "tokenizers" / _digest(folder)
    if kept.is_dir():
        return TokenizerParts.open(kept)
    tokenizer = load_tokenizer(model, config)
    parts = parts_of(tokenizer)
    if parts is None:
        return tokenizer
    _keep(parts, kept)
    return parts


def parts_digest(parts: "TokenizerParts | PreTrainedTokenizerBase") -> str:
    """Digest of all that decides about ids, special tokens and chats: 64 hex digits."""
    if not isinstance(parts, TokenizerParts):
        return tokenizer_digest(parts)
    content = [parts.backend.to_str(), parts.special_tokens, parts.chat_template]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _keep(parts: TokenizerParts, kept: Path) -> None:
    try:
        build_once(kept, parts.save, doing="keeping a tokenizer", wait_seconds=_WAIT_SECONDS)
    except DependencyError as error:
        _logger.warning("the tokenizer will load slowly every time: %s", error)


def _digest(folder: Path) -> str:
    """Of everything that a tokenizer's loading looks at."""
    digest = hashlib.sha256(f"{_FORMAT} {version('transformers')} {version('tokenizers')}".encode())
    for file in _files(folder):
        content = file.read_bytes()
        digest.update(f"\n{file.relative_to(folder)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:32]


def _files(folder: Path) -> Iterator[Path]:
    takes = tokenizer_files(code=False).takes
    for pattern in ("*", "additional_chat_templates/*"):
        for file in sorted(folder.glob(pattern)):
            if file.is_file() and takes(file.relative_to(folder).as_posix()):
                yield file

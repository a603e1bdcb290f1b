"""``asynckit tokens``: what tokenize left behind."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asynckit import console
from asynckit.commands import options
from asynckit.errors import UsageError

if TYPE_CHECKING:
    from asynckit.models.config import ModelConfig
    from asynckit.tokenization.afterwards.vocabulary import Vocabulary
    from asynckit.tokenization.outputs.dataset import TokenDataset

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Inspect, verify and count what tokenize left behind."
)

Folder = Annotated[Path, typer.Argument(metavar="OUT", help="Folder that asynckit tokenize wrote.")]
Tokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", help="Where the tokenizer is now, if not where the manifest says."),
]


@app.callback()
def tokens() -> None:
    """Inspect, verify and count what tokenize left behind."""


@app.command()
def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT[:POSITION]", help="Folder that asynckit tokenize wrote, and a token's position."
        ),
    ],
    document: Annotated[
        int | None, typer.Option("--document", "-d", help="Show this document instead, from its beginning.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show at most so many tokens.")] = 64,
    tokenizer: Tokenizer = None,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,  # noqa: ARG001 - there is no progress to silence; every command takes it
    verbose: options.Verbose = False,
) -> None:
    """Show the text around a token, and the document, file and bytes that it comes from."""
    from asynckit.tokenization.afterwards.inspecting import around, beginning, render

    model = _begin(config_files, settings, verbose=verbose)
    folder, position = _split(target)
    if (position is None) == (document is None):
        raise UsageError(
            "name one token or one document",
            where=f"{target}, --document" if position is not None else target,
            mend=f"{folder}:0 shows the first token, --document 0 the first document",
        )
    dataset = _open(folder)
    vocabulary = _vocabulary(dataset, model, tokenizer)
    if document is not None:
        inspection = beginning(dataset, vocabulary, document, limit)
    else:
        assert position is not None, "one of the two is given"
        inspection = around(dataset, vocabulary, position, limit)
    if json:
        console.print_json(inspection.to_dict())
    else:
        console.print_for_people(*render(inspection))


@app.command()
def verify(
    folder: Folder,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Read the inputs too, and compare their digests.")
    ] = False,
    reference: Annotated[
        float | None,
        typer.Option(
            "--reference",
            metavar="SHARE",
            min=0.0,
            max=1.0,
            help="Encode this share of the documents again with the reference, and compare.",
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Prove from its files that a folder is whole; exit code 1 if not."""
    from asynckit.tokenization.afterwards.findings import render
    from asynckit.tokenization.afterwards.verifying import verify as check

    model = _begin(config_files, settings, verbose=verbose)
    dataset = _open(folder)
    vocabulary = _vocabulary(dataset, model, tokenizer) if inputs or reference else None
    files = [record for shard in dataset.manifest.shards for record in shard.files]
    progress = console.Progress(sum(record.bytes for record in files), "byte", quiet=quiet)
    try:
        result = check(dataset, progress.update)
    finally:
        progress.close()
    if vocabulary:
        from asynckit.tokenization.afterwards.input_checks import check_inputs

        progress = console.Progress(dataset.document_count, "record", quiet=quiet)
        try:
            check_inputs(dataset, vocabulary, reference or 0.0, result, progress.update)
        finally:
            progress.close()
    if json:
        console.print_json(result.to_dict())
    else:
        console.print_for_people(*render(result))
    result.raise_for_findings()


@app.command()
def stats(
    folder: Folder,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots as well.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=0, help="How many of the most frequent tokens to show.")
    ] = 20,
    tokenizer: Tokenizer = None,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Count documents, tokens and text: lengths, inputs, the most frequent tokens, what was cut or packed."""
    from asynckit.tokenization.afterwards.counting import count
    from asynckit.tokenization.afterwards.summary import summarize_tally
    from asynckit.tokenization.afterwards.summary_view import render, to_html

    model = _begin(config_files, settings, verbose=verbose)
    dataset = _open(folder)
    vocabulary = _vocabulary(dataset, model, tokenizer)
    progress = console.Progress(dataset.token_count, "token", quiet=quiet)
    try:
        tally = count(dataset, vocabulary.spelling(dataset.manifest.tokenizer.vocabulary), progress.update)
    finally:
        progress.close()
    summary = summarize_tally(folder, dataset.manifest, tally, vocabulary, top)
    if html is not None:
        from asynckit.disk import whole_file

        with whole_file(html) as file:
            file.write(to_html(summary).encode("utf-8", "replace"))
    if json:
        console.print_json(summary.to_dict())
    else:
        console.print_for_people(*render(summary))


def _begin(config_files: list[Path] | None, settings: list[str] | None, *, verbose: bool) -> "ModelConfig":
    """Set up the console; the settings of models say where tokenizers are looked for."""
    loaded = options.load(files=config_files, settings=settings, overrides=None, flags=[], verbose=verbose)
    return loaded.root.model


def _open(folder: Path) -> "TokenDataset":
    from asynckit.tokenization.outputs.dataset import TokenDataset

    return TokenDataset.open(folder)


def _vocabulary(dataset: "TokenDataset", model: "ModelConfig", name: str | None) -> "Vocabulary":
    from asynckit.tokenization.afterwards.vocabulary import open_vocabulary

    return open_vocabulary(dataset.manifest.tokenizer, model, name)


def _split(target: str) -> tuple[Path, int | None]:
    """``OUT:123`` in its parts; a folder that is really called so has no position."""
    folder, colon, position = target.rpartition(":")
    digits = position.replace(",", "").replace("_", "")
    if not colon or not (digits.isascii() and digits.isdigit()) or Path(target).is_dir():
        return Path(target), None
    return Path(folder), int(digits)

"""``asynckit tokenize``: text to token shards."""

from typing import TYPE_CHECKING, Annotated

import typer

from asynckit import console
from asynckit.commands import options

if TYPE_CHECKING:
    from rich.table import Table

    from asynckit.config.load import LoadedConfig
    from asynckit.tokenization.planning import Forecast
    from asynckit.tokenization.run import Summary

app = typer.Typer(add_completion=False)


@app.command()
def tokenize(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS", help="Files, folders, patterns, URLs, or - for standard input."),
    ],
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", "-t", help="Built-in name, folder, GGUF file, Hub id or remote folder."),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="Folder of the shards.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", "-f", help="megatron, npy, parquet or arrow.")
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option("--input-format", help="jsonl, json, parquet, arrow, csv or text; by name if unsaid."),
    ] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="Where the text is, such as messages[0].content.")
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="documents, chat or pairs.")] = None,
    pack: Annotated[
        int | None, typer.Option("--pack", metavar="LENGTH", help="Pack into sequences of that many tokens.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="auto, tokenizers, gigatoken or kitoken.")
    ] = None,
    bos: Annotated[
        str | None, typer.Option("--bos", help="Before each document: tokenizer, add or none.")
    ] = None,
    eos: Annotated[
        str | None, typer.Option("--eos", help="After each document: tokenizer, add or none.")
    ] = None,
    on_error: Annotated[
        str | None, typer.Option("--on-error", help="stop at a broken record, or skip and list it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", help="Processes; one per core by default.")
    ] = None,
    ray: Annotated[
        bool | None, typer.Option("--ray/--no-ray", help="Work on the Ray cluster of ray.address.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier output in --out and begin anew.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Tokenize a sample and say what all of it would take.")
    ] = False,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn text into token shards that a trainer can memory-map; run again to go on where it was cut off."""
    from asynckit.config.load import Flag

    loaded = options.load(
        files=config_files,
        settings=settings,
        overrides=None,
        flags=[
            Flag("model.tokenizer", tokenizer, "--tokenizer"),
            Flag("tokenization.out", out, "--out"),
            Flag("tokenization.format", format_, "--format"),
            Flag("tokenization.input_format", input_format, "--input-format"),
            Flag("tokenization.field", field, "--field"),
            Flag("tokenization.mode", mode, "--mode"),
            Flag("tokenization.pack_length", pack, "--pack"),
            Flag("tokenization.encoder", encoder, "--encoder"),
            Flag("tokenization.bos", bos, "--bos"),
            Flag("tokenization.eos", eos, "--eos"),
            Flag("tokenization.on_error", on_error, "--on-error"),
            Flag("tokenization.workers", workers, "--workers"),
            Flag("tokenization.ray", ray, "--ray"),
        ],
        verbose=verbose,
    )
    if plan:
        _show_plan(inputs, loaded, json=json)
        return
    summary = _run(inputs, loaded, overwrite=overwrite, quiet=quiet)
    if json:
        console.print_json(summary.to_dict())
    else:
        console.print_for_people(_table(summary))


def _run(inputs: list[str], loaded: "LoadedConfig", *, overwrite: bool, quiet: bool) -> "Summary":
    from asynckit.config.values import plain
    from asynckit.errors import Interrupted
    from asynckit.tokenization.run import tokenize as run

    root = loaded.root
    try:
        return run(
            inputs,
            model=root.model,
            config=root.tokenization,
            ray=root.ray,
            options=plain(root.tokenization, identity=True),
            overwrite=overwrite,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        raise Interrupted("stopped", mend="run the same command again to go on") from None


def _show_plan(inputs: list[str], loaded: "LoadedConfig", *, json: bool) -> None:
    from asynckit.tokenization.planning import forecast

    found = forecast(inputs, model=loaded.root.model, config=loaded.root.tokenization)
    if json:
        console.print_json(found.to_dict())
    else:
        console.print_for_people(_plan_table(found))


def _table(summary: "Summary") -> "Table":
    manifest, totals, encoder = summary.manifest, summary.manifest.totals, summary.manifest.encoder
    padding = f", {totals.padding / totals.tokens:.1%} padding" if totals.padding else ""
    rows = [
        ("status", "done" if summary.seconds is not None else "was complete before; nothing to do"),
        ("documents", f"{totals.documents:,}"),
        ("tokens", f"{totals.tokens:,}{padding}"),
    ]
    if totals.sequences != totals.documents:
        rows.append(("sequences", f"{totals.sequences:,}"))
    if totals.truncated_documents:
        lost = _counted(totals.truncated_tokens, "token")
        rows.append(("truncated", f"{_counted(totals.truncated_documents, 'document')} by {lost}"))
    if totals.skipped:
        rows.append(("skipped", f"{_counted(totals.skipped, 'record')}, listed in skipped.jsonl"))
    checked = " and ".join(
        (_counted(encoder.checked_documents, "document"), _counted(encoder.checked_excerpts, "excerpt"))
    )
    same = "the reference itself" if encoder.name == "tokenizers" else f"{checked} equal the reference's"
    if encoder.checked_documents and encoder.bound:
        same += f", so at most {encoder.bound:.2g} of documents can differ (95 %)"
    rows.append(("encoder", f"{encoder.name} {encoder.version}; {same}"))
    if summary.seconds:
        megabytes, tokens = summary.bytes / summary.seconds / 1e6, summary.tokens / summary.seconds
        rows.append(("took", f"{summary.seconds:.1f} s ({megabytes:.1f} MB/s, {tokens:,.0f} tokens/s)"))
    files = sum(len(shard.files) for shard in manifest.shards)
    rows.append(
        (
            "written to",
            f"{summary.out}/ {_counted(files, 'file')} in {_counted(len(manifest.shards), 'shard')}",
        )
    )
    return _two_columns("tokenize", rows)


def _plan_table(found: "Forecast") -> "Table":
    known = found.tokens_high == found.tokens_low
    spread = "" if known else f" ({found.tokens_low:,} to {found.tokens_high:,})"
    broken = f", {_counted(found.skipped, 'broken record')}" if found.skipped else ""
    rows = [
        ("inputs", f"{found.inputs:,}, {found.input_bytes / 1e6:,.1f} MB"),
        ("sample", f"{found.sampled_bytes / 1e6:,.2f} MB{broken}"),
        ("documents", f"about {found.documents:,}"),
        ("tokens", f"about {found.tokens:,}{spread}"),
        (
            "time",
            f"about {found.seconds:,.1f} s with {_counted(found.workers, 'worker')}, by {found.encoder}",
        ),
        ("disk", f"about {found.output_bytes / 1e6:,.1f} MB, twice that meanwhile"),
    ]
    return _two_columns("plan", rows)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _two_columns(title: str, rows: list[tuple[str, str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table

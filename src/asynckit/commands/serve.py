"""``asynckit serve``: an OpenAI-compatible multi-LoRA server."""

from typing import Annotated

import typer

from asynckit import console
from asynckit.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    overrides: options.Overrides = None,
    model: options.Model = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port; 0 takes a free one.")] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="NAME=FOLDER", help="An adapter to begin with; repeatable."),
    ] = None,
    lora_dir: Annotated[
        str | None, typer.Option("--lora-dir", metavar="DIR", help="Folder of adapters to begin with.")
    ] = None,
    no_lora: Annotated[
        bool, typer.Option("--no-lora", help="Serve the model alone: adapters are refused.")
    ] = False,
    lora_compute: Annotated[
        bool | None,
        typer.Option(
            "--lora-compute/--no-lora-compute", help="Off loads adapters but leaves out their arithmetic."
        ),
    ] = None,
    lora_swap: Annotated[
        bool | None,
        typer.Option("--lora-swap/--no-lora-swap", help="Off keeps every adapter loaded."),
    ] = None,
    max_loras: Annotated[
        int | None, typer.Option("--max-loras", help="Adapters that one step can use.")
    ] = None,
    prefetch: Annotated[
        bool | None,
        typer.Option("--prefetch/--no-prefetch", help="Read the adapters of waiting requests ahead."),
    ] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", metavar="KEY", help="Who may use the server; repeatable."),
    ] = None,
    admin_key: Annotated[
        str | None,
        typer.Option("--admin-key", metavar="KEY", help="Who may change adapters and weights."),
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", help="Engines that share the load.")] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="Processes that hold one model together.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="torch, or simulated (no model).")] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="DIR", help="Write a timeline of every request there.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Start, answer one request, say how it went, and stop.")
    ] = False,
    config_files: options.ConfigFiles = None,
    settings: options.Settings = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Serve a model and its LoRA adapters over HTTP, as OpenAI does, until Ctrl-C or SIGTERM."""
    from asynckit.config.load import Flag

    _refuse_unread([*(overrides or ()), *(settings or ())])
    loaded = options.load(
        files=config_files,
        settings=settings,
        overrides=overrides,
        flags=[
            Flag("model.name", model, "--model"),
            Flag("serve.host", host, "--host"),
            Flag("serve.port", port, "--port"),
            Flag("serve.loras", lora or None, "--lora"),
            Flag("serve.lora_dir", lora_dir, "--lora-dir"),
            Flag("serve.lora", False if no_lora else None, "--no-lora"),
            Flag("engine.lora_compute", lora_compute, "--lora-compute"),
            Flag("engine.lora_swap", lora_swap, "--lora-swap"),
            Flag("engine.max_loras", max_loras, "--max-loras"),
            Flag("serve.prefetch", prefetch, "--prefetch"),
            Flag("serve.api_keys", api_key or None, "--api-key"),
            Flag("serve.admin_key", admin_key, "--admin-key"),
            Flag("serve.replicas", replicas, "--replicas"),
            Flag("serve.tp", tp, "--tp"),
            Flag("serve.engine", engine, "--engine"),
            Flag("serve.trace", trace, "--trace"),
        ],
        verbose=verbose,
    )
    from asynckit.readable import readable
    from asynckit.serve.run import run_server

    root = loaded.root
    report = run_server(
        serve=root.serve,
        model=root.model,
        engine=root.engine,
        simulated=root.simulated,
        ray=root.ray,
        check=check,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    if report and json:
        console.print_json(report)
    elif report:
        console.stdout().print(readable(report["text"]), highlight=False, markup=False)


def _refuse_unread(given: list[str]) -> None:
    """Settings of other commands would be ignored, which nobody who typed one wants."""
    from dataclasses import fields

    from asynckit.config.schema import Root
    from asynckit.errors import UsageError

    others = {field.name for field in fields(Root)} - {"model", "engine", "simulated", "ray", "serve"}
    for entry in given:
        if (section := entry.partition("=")[0].partition(".")[0].strip()) in others:
            raise UsageError(
                f"serve reads no setting of the section {section}",
                where=f"argument {entry!r}",
                mend="requests say how to sample" if section == "sampling" else "leave it out",
            )

"""From the settings to a server that runs until it is asked to stop."""

import asyncio
import ipaddress
import json as json_text
import os
import ssl
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from asynckit import console
from asynckit.cluster.config import RayConfig
from asynckit.cluster.connection import connect, disconnect
from asynckit.engine.config import EngineConfig
from asynckit.engine.simulated_config import SimulatedConfig
from asynckit.errors import ConfigError, Interrupted, UsageError, WorkFailed
from asynckit.models.config import ModelConfig
from asynckit.models.resolve import resolve_model, resolve_tokenizer
from asynckit.serve.adapters import GivenAdapter, adapter_roots, given_adapters, weights_roots
from asynckit.serve.config import ServeConfig
from asynckit.serve.hosts import RayCluster, ThisMachine, share_machine
from asynckit.serve.supervisor import Job, Supervisor, listen

SHORTEST_KEY = 8
_CHECK_PROMPT = "Say hello."


def run_server(
    *,
    serve: ServeConfig,
    model: ModelConfig,
    engine: EngineConfig,
    simulated: SimulatedConfig,
    ray: RayConfig,
    check: bool,
    json: bool,
    quiet: bool,
    verbose: bool,
) -> dict[str, Any] | None:
    """Serve until Ctrl-C or SIGTERM.

    ``check`` answers one request and stops; ``json`` prints one JSON document when the server is ready, and
    ``quiet`` keeps that to itself.

    Returns:
        What the one request brought, if ``check``.

    Raises:
        AsynckitError: the settings, the model or the machine forbid it, or a process gave up.
        Interrupted: it was asked to stop twice, or what ran could not end in time.
    """
    _open_standard_streams()
    console.never_wait()
    refuse_unsafe(serve)
    serve = replace(serve, name=serve.name or model.name)
    given = given_adapters(serve, engine, str(serve.name))
    adapter_roots(serve, given)
    weights_roots(serve)
    serve = _in_full(serve, given)
    here = _local(model, serve.engine, quiet=quiet)
    with listen(serve) as listening:
        url = _url(serve, listening.getsockname()[1])
        if ray.address == "local":
            engine = share_machine(serve, engine)
            job = Job(
                serve, here, here, engine, simulated, listening, ThisMachine(), verbose=verbose, quiet=quiet
            )
            return asyncio.run(_supervise(job, url, check=check, json=json, quiet=quiet))
        connect(ray)
        try:
            cluster = RayCluster(serve, engine)
            serve = replace(serve, transport="tcp")
            job = Job(
                serve,
                here,
                _in_full_model(model),
                engine,
                simulated,
                listening,
                cluster,
                cluster.address,
                verbose,
            )
            return asyncio.run(_supervise(job, url, check=check, json=json, quiet=quiet))
        finally:
            disconnect()


async def _supervise(job: Job, url: str, *, check: bool, json: bool, quiet: bool) -> dict[str, Any] | None:
    began = time.monotonic()
    found: list[dict[str, Any]] = []
    ready = False

    async def use() -> None:
        nonlocal ready
        ready, seconds = True, time.monotonic() - began
        if check:
            found.append(await _ask(job.serve, url, seconds))
            return
        document = {"url": url, "model": job.serve.name, "ready_seconds": round(seconds, 2)}
        if json:
            sys.stdout.write(json_text.dumps(document) + "\n")
            sys.stdout.flush()
        elif not quiet:
            console.print_note(f"serving {job.serve.name} at {url}/v1 (ready after {seconds:.1f} s)")
        await asyncio.Event().wait()

    whole = await Supervisor(job).run(use)
    if check and found:
        return found[0]
    if not whole:
        raise Interrupted(
            "stopped before every request had ended" if ready else "stopped while it was starting", mend=""
        )
    return None


async def _ask(serve: ServeConfig, url: str, seconds: float) -> dict[str, Any]:
    """Send one request, as a client would; returns what came of it."""
    import httpx2

    trust: Any = True
    if serve.tls_cert:  # our own certificate, by its file: its name need not be this address's
        trust = ssl.create_default_context(cafile=serve.tls_cert)
        trust.check_hostname = False
    headers = {"Authorization": f"Bearer {serve.api_keys[0]}"} if serve.api_keys else {}
    body = {"model": serve.name, "prompt": _CHECK_PROMPT, "max_tokens": 16, "temperature": 0}
    sent = time.monotonic()
    timeout = serve.request_timeout + 10
    async with httpx2.AsyncClient(verify=trust, timeout=timeout, trust_env=False) as client:
        answer = await client.post(f"{url}/v1/completions", json=body, headers=headers)
    took = time.monotonic() - sent
    if answer.status_code != 200:
        raise WorkFailed(
            f"the server answered {answer.status_code}: {answer.text[:500]}", where="asynckit serve --check"
        )
    document = answer.json()
    text, tokens = document["choices"][0]["text"], document["usage"]["completion_tokens"]
    return {
        "model": serve.name,
        "ready_seconds": round(seconds, 2),
        "request_seconds": round(took, 3),
        "tokens": tokens,
        "text": text,
    }


def _open_standard_streams() -> None:
    """Put nothing in the place of standard streams that are closed: sockets would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.dup(1), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.dup(2), "w")


def refuse_unsafe(serve: ServeConfig) -> None:
    """Find settings that would open the server to strangers or can't work, before anything starts.

    Raises:
        UsageError, ConfigError: with the mend.
    """
    if not _is_loopback(serve.host) and not serve.api_keys and not serve.open_to_all:
        raise UsageError(
            f"{serve.host} is reached from other machines, and no API key is set",
            where="--host",
            mend="give one with --api-key, or say serve.open_to_all=true",
        )
    if bool(serve.tls_cert) != bool(serve.tls_key):
        raise ConfigError(
            "a certificate and its key belong together",
            where="serve.tls_cert" if serve.tls_key else "serve.tls_key",
            mend="set both",
        )
    for setting in ("tls_cert", "tls_key"):
        path = getattr(serve, setting)
        if path and not Path(path).expanduser().is_file():
            raise ConfigError(f"there is no file {path}", where=f"serve.{setting}", mend="name a PEM file")
    for setting, keys in (("serve.api_keys", serve.api_keys), ("serve.admin_key", (serve.admin_key,))):
        if any(key is not None and len(key) < SHORTEST_KEY for key in keys):
            raise ConfigError(
                f"a key must have {SHORTEST_KEY} characters or more",
                where=setting,
                mend="`openssl rand -hex 24` makes a good one",
            )
    if serve.trace:
        try:
            Path(serve.trace).expanduser().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{serve.trace} can't be made: {error.strerror}", where="serve.trace", mend="name a folder"
            ) from error


def _in_full(serve: ServeConfig, given: Iterable[GivenAdapter]) -> ServeConfig:
    """The same folders by their full paths, which hold in every working directory."""
    folders = {adapter.name: adapter.folder for adapter in given}
    names = [entry.partition("=")[0] for entry in serve.loras]
    return replace(
        serve,
        loras=tuple(f"{name}={folders[name]}" for name in names),
        lora_dir=_full(serve.lora_dir) if serve.lora_dir else None,
        lora_roots=tuple(map(_full, serve.lora_roots)),
        weights_roots=tuple(map(_full, serve.weights_roots)),
        trace=_full(serve.trace) if serve.trace else None,
        tls_cert=_full(serve.tls_cert) if serve.tls_cert else None,
        tls_key=_full(serve.tls_key) if serve.tls_key else None,
    )


def _full(folder: str) -> str:
    return str(Path(folder).expanduser().absolute())


def _in_full_model(model: ModelConfig) -> ModelConfig:
    return replace(model, name=_full(model.name)) if Path(model.name).exists() else model


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _local(model: ModelConfig, engine: str, *, quiet: bool) -> ModelConfig:
    """The same model by its place on this machine, found once for all processes."""
    folder = resolve_tokenizer(model, progress=not quiet)
    if engine == "simulated":
        return replace(model, tokenizer=str(folder))
    local = resolve_model(model, progress=not quiet)
    return replace(model, name=str(local.path), tokenizer=str(folder) if model.tokenizer else None)


def _url(serve: ServeConfig, port: int) -> str:
    scheme = "https" if serve.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(serve.host, serve.host)  # noqa: S104 - as reached from here
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

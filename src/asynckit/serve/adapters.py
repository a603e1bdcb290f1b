"""Which adapters the server begins with, and from which folders others may be loaded while it runs.

What is named when the server starts is the operator's word, wherever it lies. What a client names later must
lie below a root, and whoever asks for anything else learns nothing about it, not even whether it exists.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asynckit.engine import adapter_config
from asynckit.engine.adapter_folder import weights_file
from asynckit.engine.config import EngineConfig
from asynckit.engine.protocol import Adapters
from asynckit.errors import ConfigError, InputError
from asynckit.serve.config import ServeConfig

LONGEST_NAME = 128
LONGEST_PATH = 4096


@dataclass(frozen=True)
class GivenAdapter:
    """An adapter that the server begins with.

    Attributes:
        name: what clients call it.
        folder: where it is; absolute.
        flag: what named it, such as ``--lora sql=adapters/sql``.
    """

    name: str
    folder: Path
    flag: str

    def blamed(self, error: InputError) -> InputError:
        """``error`` with the flag as its place."""
        place = f"{error.where}: " if error.where else ""
        return InputError(f"adapter {self.name!r}: {place}{error.message}", where=self.flag, mend=error.mend)


def given_adapters(serve: ServeConfig, engine: EngineConfig, model: str) -> tuple[GivenAdapter, ...]:
    """What the server begins with, each checked as far as that goes without the model.

    Args:
        serve: settings of the server.
        engine: settings of its engines.
        model: what clients call the model itself.

    Raises:
        ConfigError: settings contradict each other, or a name or folder is impossible.
        InputError: an adapter is broken or no safetensors file.
    """
    _check_settings(serve, engine)
    given = [*map(_from_flag, serve.loras), *_from_folder(serve.lora_dir)]
    _check_names(given, model)
    for adapter in given:
        _check_files(adapter)
    return tuple(given)


def register_all(adapters: Adapters, given: Iterable[GivenAdapter]) -> None:
    """Let an engine's requests use the adapters that the server begins with.

    Raises:
        InputError: one doesn't fit the model; names the flag.
    """
    for adapter in given:
        try:
            adapters.register(adapter.name, adapter.folder)
        except InputError as error:
            raise adapter.blamed(error) from error


def check_name(name: str, model: str) -> str:
    """What is wrong with an adapter's name, if anything; ``model`` is what clients call the model itself."""
    if not name or len(name) > LONGEST_NAME:
        return f"an adapter's name must have 1 to {LONGEST_NAME} characters"
    if not name.isprintable() or name != name.strip():
        return "an adapter's name must hold printable characters only, with no space around them"
    return "the model itself has this name" if name == model else ""


def adapter_roots(serve: ServeConfig, given: Iterable[GivenAdapter]) -> tuple[Path, ...]:
    """Folders below which adapters may be loaded while the server runs, and single files that may be read.

    They are ``lora_roots``, ``lora_dir`` and the folders given at the start, with the files that those link
    to.

    Raises:
        ConfigError: one is no folder.
    """
    if not serve.lora:
        return ()
    roots = list(_roots(serve.lora_roots, "serve.lora_roots"))
    if serve.lora_dir is not None:
        roots += _roots((serve.lora_dir,), "--lora-dir")
    for adapter in given:
        roots += _both(adapter.folder)
        # Caches of downloads are folders of links to files elsewhere.
        links = (entry for entry in adapter.folder.iterdir() if entry.is_symlink() and entry.is_file())
        roots += (link.resolve() for link in links)
    return tuple(dict.fromkeys(roots))


def weights_roots(serve: ServeConfig) -> tuple[Path, ...]:
    """Folders below which weights may be updated from.

    Raises:
        ConfigError: one is no folder.
    """
    return tuple(dict.fromkeys(_roots(serve.weights_roots, "serve.weights_roots")))


def allowed_folder(folder: str, roots: Sequence[Path]) -> Path:
    """The folder that a client names, links resolved, if it and the files in it are below the roots.

    Args:
        folder: absolute, or from where the server was started.
        roots: as :func:`adapter_roots` and :func:`weights_roots` return them.

    Raises:
        InputError: it is not below a root, or is no folder. What lies outside of the roots makes no
            difference to what the error says.
    """
    where = f"folder {folder[:200]!r}"
    outside = InputError(
        "not in a folder that this server may load from",
        where=where,
        mend="name one below --lora-dir, serve.lora_roots or serve.weights_roots, without '..'",
    )
    if not folder or len(folder) > LONGEST_PATH or not folder.isprintable() or ".." in Path(folder).parts:
        raise outside
    try:
        named = Path(folder).absolute()
        # Before anything is looked up: a link from outside that leads inside would tell that it exists.
        if not _is_below(named, roots) or not _is_below(real := named.resolve(), roots):
            raise outside
        if not real.is_dir():
            raise InputError("there is no such folder", where=where)
        if not all(_is_below(entry.resolve(), roots) for entry in real.iterdir() if entry.is_symlink()):
            raise outside
    except (OSError, RuntimeError) as error:  # not allowed to look, too long a name, links in a circle
        raise InputError("the folder can't be read", where=where) from error
    return real


def _check_settings(serve: ServeConfig, engine: EngineConfig) -> None:
    if not serve.lora:
        for flag, is_given in (
            ("--lora", serve.loras),
            ("--lora-dir", serve.lora_dir is not None),
            ("serve.lora_roots", serve.lora_roots),
            ("--prefetch", serve.prefetch),
        ):
            if is_given:
                raise ConfigError(
                    f"serves the model without adapters, which leaves no use for {flag}",
                    where="--no-lora",
                    mend=f"leave out --no-lora or {flag}",
                )
    if serve.prefetch and not engine.lora_swap:
        raise ConfigError(
            "reads adapters ahead, and with --no-lora-swap all of them are read when the server starts",
            where="--prefetch",
            mend="leave out --prefetch or --no-lora-swap",
        )
    for setting in ("lora_roots", "weights_roots"):
        if getattr(serve, setting) and serve.admin_key is None:
            raise ConfigError(
                "allows folders to load from, but without an admin key nobody may load",
                where=f"serve.{setting}",
                mend="set serve.admin_key, for instance by ASYNCKIT_SERVE__ADMIN_KEY",
            )


def _from_flag(entry: str) -> GivenAdapter:
    name, equals, folder = entry.partition("=")
    if not equals or not folder:
        raise ConfigError("must be NAME=FOLDER", where=f"--lora {entry}")
    flag = f"--lora {entry}"
    return GivenAdapter(name, _absolute(folder, flag), flag)


def _from_folder(folder: str | None) -> list[GivenAdapter]:
    if folder is None:
        return []
    flag = f"--lora-dir {folder}"
    parent = _existing(folder, flag)
    if (parent / adapter_config.NAME).is_file():
        raise ConfigError(
            "is an adapter itself, not a folder of adapters", where=flag, mend=f"use --lora NAME={folder}"
        )
    try:
        found = [child for child in sorted(parent.iterdir()) if (child / adapter_config.NAME).is_file()]
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=flag) from error
    return [GivenAdapter(child.name, child, flag) for child in found]


def _check_names(given: Sequence[GivenAdapter], model: str) -> None:
    first: dict[str, GivenAdapter] = {}
    for adapter in given:
        problem = check_name(adapter.name, model)
        if other := first.setdefault(adapter.name, adapter):
            problem = problem or ("" if other is adapter else f"{other.flag} gives the same name")
        if problem:
            raise ConfigError(
                f"adapter {adapter.name!r}: {problem}", where=adapter.flag, mend="choose another name"
            )


def _check_files(adapter: GivenAdapter) -> None:
    try:
        adapter_config.read_config(adapter.folder)
        weights_file(adapter.folder)
    except InputError as error:
        raise adapter.blamed(error) from error
    except OSError as error:
        reason = InputError(f"can't be read: {error.strerror}", where=str(adapter.folder))
        raise adapter.blamed(reason) from error


def _roots(folders: Iterable[str], setting: str) -> Iterator[Path]:
    for folder in folders:
        yield from _both(_existing(folder, setting))


def _both(folder: Path) -> tuple[Path, Path]:
    """A folder as it was named and as it is, because clients may call it by either."""
    real = folder.resolve()
    return real if ".." in folder.parts else folder, real


def _existing(folder: str, setting: str) -> Path:
    path = _absolute(folder, setting)
    if not folder or not path.is_dir():
        raise ConfigError(f"there is no folder {folder!r}", where=setting)
    return path


def _absolute(folder: str, setting: str) -> Path:
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"whose home {folder!r} means is unknown", where=setting) from error


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)

"""Remote folders (any fsspec protocol) copied to the cache once.

The copy's name holds a digest over the URL and every file's path, size and version (ETag, checksum or time),
so a folder that changes at its source gets a new copy and one that does not is never fetched again. Inside
``<copy>.partial`` a file grows as ``<file>.partial`` by ranged reads, and goes on where it stopped after an
interruption; because the digest is part of the folder's name, what lies there is always of the same version.
"""

import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from asynckit.errors import DependencyError
from asynckit.models.cache import CHOOSE_CACHE, build_once
from asynckit.models.files import Selection
from asynckit.models.store import RemoteFile, RemoteFolder, shown

CHUNK_BYTES = 16 * 2**20
_LONGEST_COPY = 2 * 3600.0
_EVERYTHING = Selection(ignore=("*.partial",))  # in the cache that suffix is ours


def copy_to_local(
    url: str, cache_dir: Path, *, progress: bool = False, files: Selection = _EVERYTHING
) -> Path:
    """Copy a remote folder into ``cache_dir`` and return the copy; nothing is fetched twice.

    Args:
        url: the folder, such as ``s3://bucket/checkpoint``.
        cache_dir: the cache; the copy lies in its folder ``remote``.
        progress: show a progress bar in bytes on stderr.
        files: which of the folder's files to copy; all by default.

    Raises:
        ModelNotFound: there is no such folder, or nothing wanted in it.
        DependencyError: the protocol's driver is missing, the store or the cache fails, or another process
            copies too long.
        InputError: a name in the folder would leave it.
    """
    source = RemoteFolder(url)
    listing = source.list_files(files)
    name = _source_name(url)
    target = cache_dir / "remote" / f"{name}-{_digest(url, listing)}"

    def build(folder: Path) -> None:
        _remove_other_versions(folder, name)
        _copy_files(source, listing, folder, progress=progress)
        if source.list_files(files) != listing:
            shutil.rmtree(folder)
            raise DependencyError(
                "the folder changed while it was copied", where=shown(url), mend="try again"
            )

    lock = target.with_name(f"{name}.lock")
    return build_once(target, build, doing=f"copying {shown(url)}", wait_seconds=_LONGEST_COPY, lock=lock)


def _source_name(url: str) -> str:
    last = re.sub(r"[^\w.-]+", "-", url.rstrip("/").rsplit("/", 1)[-1])[:64].lstrip(".-") or "model"
    return f"{last}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _digest(url: str, listing: list[RemoteFile]) -> str:
    digest = hashlib.sha256(url.encode())
    for file in listing:
        digest.update(repr((file.path, file.size, file.version)).encode())
    return digest.hexdigest()[:16]


def _remove_other_versions(folder: Path, name: str) -> None:
    """Delete what interrupted copies of other versions left. The caller holds the source's lock."""
    for left in folder.parent.glob(f"{name}-*.partial"):
        if left != folder:
            shutil.rmtree(left)


def _copy_files(source: RemoteFolder, listing: list[RemoteFile], folder: Path, *, progress: bool) -> None:
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    total, present = sum(file.size for file in listing), sum(_present_bytes(folder, file) for file in listing)
    _check_space(folder, total - present)
    with tqdm(
        desc=f"copying {shown(source.url)}",
        total=total,
        initial=present,
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=not progress,
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
    ) as bar:
        for file in listing:
            _copy_file(source, file, folder, bar.update)


def _present_bytes(folder: Path, file: RemoteFile) -> int:
    for path in (folder / file.path, _partial(folder, file)):
        if path.is_file():
            return path.stat().st_size
    return 0


def _partial(folder: Path, file: RemoteFile) -> Path:
    return folder / f"{file.path}.partial"


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DependencyError(
            f"the copy needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free",
            where=str(folder),
            mend=f"free some space, or {CHOOSE_CACHE}",
        )


def _copy_file(
    source: RemoteFolder, file: RemoteFile, folder: Path, advance: Callable[[int], object]
) -> None:
    """Bring one file to ``folder``, going on where an earlier copy stopped."""
    final, partial = folder / file.path, _partial(folder, file)
    if final.is_file():
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as out:
        while (start := out.tell()) < file.size:
            advance(out.write(source.read(file, start, min(start + CHUNK_BYTES, file.size))))
    if start != file.size:
        partial.unlink()
        raise DependencyError(
            f"the copy was longer than {file.path} itself", where=str(partial), mend="try again"
        )
    partial.rename(final)

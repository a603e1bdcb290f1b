"""The folder where converted and copied models are kept, and how many processes share it.

A model enters the cache in three steps under a lock: it is written to ``<name>.partial``, the whole folder is
renamed to ``<name>``, the lock is released. A folder without ``.partial`` is therefore always whole, whatever
was killed when. The lock is the kernel's (``flock``): it ends with the process that holds it.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from asynckit.errors import DependencyError

CACHE_VARIABLE = "ASYNCKIT_CACHE_DIR"
CHOOSE_CACHE = f"choose another folder with {CACHE_VARIABLE} or model.cache_dir"
_logger = logging.getLogger(__name__)


def cache_root(cache_dir: str | None) -> Path:
    """The cache: ``cache_dir`` where given, else ``$ASYNCKIT_CACHE_DIR``, else the user's cache folder."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen)).absolute()  # noqa: PTH111 - Path.expanduser raises for unknown users
    from platformdirs import user_cache_path

    return user_cache_path("asynckit")


def build_once(
    target: Path, build: Callable[[Path], None], *, doing: str, wait_seconds: float, lock: Path | None = None
) -> Path:
    """Return ``target``, built by exactly one of the processes that ask for it at the same time.

    ``build`` gets the path of the partial folder, which may hold what an earlier process left when it was
    killed, and must leave it complete.

    Args:
        target: the finished folder.
        build: writes the partial folder.
        doing: what building is called in messages, such as ``"converting X"``.
        wait_seconds: longest wait for another process.
        lock: the lock file; beside ``target`` by default.

    Raises:
        DependencyError: the cache cannot be written, or another process holds the lock for too long.
    """
    if target.is_dir():
        return target
    with locked(lock or target.with_name(f"{target.name}.lock"), doing, wait_seconds):
        if not target.is_dir():
            partial = target.with_name(f"{target.name}.partial")
            try:
                build(partial)
                partial.rename(target)
            except OSError as error:
                raise _unwritable(partial, error) from error
    return target


@contextlib.contextmanager
def locked(path: Path, doing: str, wait_seconds: float) -> Iterator[None]:
    """Hold the lock file ``path``; wait for another process at most ``wait_seconds``."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _logger.info("waiting for another process, which is %s", doing)
            lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise DependencyError(
            f"waited {wait_seconds:g} s for another process, which is still {doing}",
            where=str(path),
            mend="wait until it is done and try again, or stop it",
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _unwritable(path: Path, error: OSError) -> DependencyError:
    return DependencyError(
        f"cannot write the model cache: {error.strerror or error}",
        where=str(path),
        mend=f"free some space, or {CHOOSE_CACHE}",
    )

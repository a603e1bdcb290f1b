"""Models of the Hugging Face Hub, kept in the Hub's own cache so that other tools share them."""

import re
from pathlib import Path
from typing import Any

from asynckit.errors import AsynckitError, DependencyError, ModelNotFound
from asynckit.models.files import Selection

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ANSWER_SECONDS = 10.0


def fetch_from_hub(
    name: str, revision: str | None, files: Selection, *, cache_dir: Path | None, progress: bool
) -> Path:
    """The local snapshot of a Hub model, fetched now where it is not in the cache.

    The Hub gets 10 s to answer. Where it does not, or HF_HUB_OFFLINE is set, a whole snapshot from the cache
    is used; a commit that is in the cache is used without asking.

    Args:
        name: ``org/name``.
        revision: branch, tag or commit; the main branch by default.
        files: what to fetch.
        cache_dir: the Hub's cache; ``HF_HOME`` and its kin decide where None.
        progress: show the Hub client's progress bars on stderr.

    Raises:
        ModelNotFound: no such model or revision, or the Hub cannot be reached and the model is not in the
            cache.
        DependencyError: the Hub refuses access, or the transfer fails.
    """
    wanted: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "allow_patterns": list(files.allow),
        "ignore_patterns": list(files.ignore),
        "tqdm_class": None if progress else _silent_bar(),
    }
    if _COMMIT.fullmatch(revision or ""):  # a commit never changes: what the cache has of it is right
        snapshot = _cached(name, wanted)
        if snapshot is not None:
            return snapshot
    silence = _ask(name, revision)
    if silence is None:
        return _download(name, wanted)
    snapshot = _cached(name, wanted)
    if snapshot is None:
        raise _unreachable(name, silence) from silence
    return snapshot


def _cached(name: str, wanted: dict[str, Any]) -> Path | None:
    """The whole snapshot that is in the cache, if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True, **wanted))
    except LocalEntryNotFoundError:
        return None


def _ask(name: str, revision: str | None) -> Exception | None:
    """Ask the Hub whether it has the model: None for yes, the fault where it gives no answer.

    snapshot_download asks the same, but waits without a limit. Raises for a definite no.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        HfApi().model_info(name, revision=revision, timeout=_ANSWER_SECONDS)
    except HFValidationError as error:
        raise ModelNotFound(f"{name!r} cannot be a Hub id", mend="Hub ids are org/name") from error
    except _transfer_errors() as error:
        refusal = _refusal(name, revision, error)
        if refusal:
            raise refusal from error
        return error
    return None


def _download(name: str, wanted: dict[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, **wanted))
    except _transfer_errors() as error:
        raise DependencyError(
            f"fetching {name} from the Hub failed: {_one_line(error)}",
            mend="try again: what has arrived is kept",
        ) from error


def _silent_bar() -> Any:
    from tqdm import tqdm

    class SilentBar(tqdm):  # type: ignore[type-arg]  # a bar that shows nothing counts nothing of any type
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return SilentBar


def _transfer_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: bad answer, none, no network, full disk, HF_HUB_OFFLINE."""
    from huggingface_hub import errors

    # The base class of the HTTP library underneath, which differs between releases of the Hub's client.
    http_error: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]
    return (http_error, OSError)


def _refusal(name: str, revision: str | None, error: Exception) -> AsynckitError | None:
    """The error for a definite no from the Hub; None where it gave no answer."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/{name}"
        return DependencyError(
            f"the Hub asks for permission to fetch {name}", mend=f"accept at {page} and set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(
            f"{name} has no revision {revision!r}", mend="name a branch, tag or commit that it has"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelNotFound(
            f"there is neither a local folder {name} nor such a public model on the Hub",
            mend="check the spelling; for a private model set HF_TOKEN",
        )
    return None


def _unreachable(name: str, error: Exception) -> ModelNotFound:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return ModelNotFound(
            f"{name} is neither a local folder nor in the Hub's local cache, and HF_HUB_OFFLINE is set",
            mend="unset HF_HUB_OFFLINE, or name a local folder",
        )
    return ModelNotFound(
        f"{name} is neither a local folder nor in the Hub's local cache, and the Hub cannot be reached: "
        f"{_one_line(error)}",
        mend="check the network, HF_ENDPOINT and proxies, or name a local folder",
    )


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__

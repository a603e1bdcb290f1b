"""What tells whether a source is still the same, without reading all of it."""

from pathlib import Path

from asynckit.models.local import sampled_digest
from asynckit.tokenization.inputs import remote
from asynckit.tokenization.inputs.access import named_faults
from asynckit.tokenization.inputs.names import STANDARD_INPUT, is_url


def size_and_identity(name: str) -> tuple[int | None, str]:
    """Stored bytes of a source, and a text that changes when it does; None and empty for standard input.

    For files: size, time of change in ns, digest of samples. For URLs: size and the store's version.

    Raises:
        InputError: it cannot be read.
        DependencyError: its store cannot be reached.
    """
    if name == STANDARD_INPUT:
        return None, ""
    if is_url(name):
        size, version = remote.size_and_version(name)
        return size, f"{size} {version}"
    with named_faults(name):
        status = Path(name).stat()
        return status.st_size, f"{status.st_size} {status.st_mtime_ns} {sampled_digest(Path(name))}"

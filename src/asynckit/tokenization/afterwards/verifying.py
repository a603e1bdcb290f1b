"""``asynckit tokens verify``: proving from a folder's files that it is whole.

The digests show that no file changed since it was written. The other checks do not trust whoever wrote it:
each property that a trainer relies on is looked at in the files themselves, where they are intact.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from asynckit.errors import InputError
from asynckit.tokenization.afterwards.findings import Check, Verification
from asynckit.tokenization.afterwards.index_checks import index_problems
from asynckit.tokenization.afterwards.provenance_checks import Covered, provenance_problems
from asynckit.tokenization.afterwards.shard_checks import id_problems, mask_problems
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import MANIFEST, FileRecord
from asynckit.tokenization.outputs.stored_shards import StoredShard

CLAIMS = {
    "files": "every file of the manifest is there, with its size and SHA-256, and no other shard",
    "index": "the sequences of every shard are its tokens, and the documents of its provenance",
    "ids": "every token is an id of the vocabulary",
    "masks": "loss masks are 0 or 1",
    "provenance": "every token but padding comes from exactly one place of one document",
    "totals": "the manifest's numbers are those of the shards",
    "inputs": "the inputs are those that were read",
    "reference": "the reference encodes the inputs to the same tokens",
}
_CHUNK = 1 << 20  # bytes
_DELETE = "delete the file, unless you want to keep it elsewhere"


def verify(dataset: TokenDataset, progress: Callable[[int], None]) -> Verification:
    """Make all checks that need nothing but the folder.

    Args:
        dataset: the folder.
        progress: is told how many bytes of files are done.
    """
    checks = {name: Check(name, claim) for name, claim in CLAIMS.items()}
    whole = _check_files(dataset, checks["files"], progress)
    covered = Covered.nothing(len(dataset.manifest.inputs))
    for shard in whole:
        _check_shard(dataset, shard, checks, covered)
    _say_what_was_covered(dataset, checks, whole)
    _check_totals(dataset, checks["totals"], covered)
    checks["inputs"].skip("nothing: --inputs reads them again")
    checks["reference"].skip("nothing: --reference SHARE encodes documents again")
    return Verification(dataset.folder, list(checks.values()))


def _check_files(dataset: TokenDataset, check: Check, progress: Callable[[int], None]) -> list[StoredShard]:
    """Sizes and digests; returns the shards whose files are intact, which alone are looked into."""
    whole, done, names = [], 0, set()
    for shard in dataset.shards:
        intact = []
        for record in shard.record.files:
            intact.append(_check_file(dataset.folder / record.name, record, check))
            names.add(record.name)
            done += record.bytes
            progress(done)
        if all(intact):
            whole.append(shard)
    for path in sorted(dataset.folder.glob("data-*")):
        if path.name not in names:
            check.finds(str(path), "the manifest has no such file", _DELETE)
    check.covers = f"{len(names):,} files, {done:,} bytes"
    return whole


def _check_file(path: Path, record: FileRecord, check: Check) -> bool:
    """Compare a file with its record; returns whether it is the one that was written."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        check.finds(str(path), f"cannot be read: {error.strerror}")
        return False
    if size != record.bytes:
        check.finds(str(path), f"has {size:,} bytes instead of {record.bytes:,}")
        return False
    if digest.hexdigest() != record.sha256:
        check.finds(str(path), "its bytes are not those that were written: its SHA-256 is another")
        return False
    return True


def _check_shard(
    dataset: TokenDataset, shard: StoredShard, checks: dict[str, Check], covered: Covered
) -> None:
    _note(checks["index"], shard, index_problems(shard))
    _note(checks["ids"], shard, _id_problems(dataset, shard))
    _note(checks["masks"], shard, _mask_problems(shard))
    _note(checks["provenance"], shard, provenance_problems(dataset, shard, covered))


def _note(check: Check, shard: StoredShard, problems: Iterator[str]) -> None:
    """Note what is wrong with a shard; that a file can't be read is a finding like others."""
    where = str(shard.path(""))
    try:
        for problem in problems:
            check.finds(where, problem)
    except InputError as error:
        check.finds(error.where or where, error.message)


def _id_problems(dataset: TokenDataset, shard: StoredShard) -> Iterator[str]:
    for piece in shard.tokens.pieces():
        yield from id_problems(piece, dataset.manifest.tokenizer.vocabulary)


def _mask_problems(shard: StoredShard) -> Iterator[str]:
    for piece in () if shard.loss_mask is None else shard.loss_mask.pieces():
        yield from mask_problems(piece)


def _say_what_was_covered(dataset: TokenDataset, checks: dict[str, Check], whole: list[StoredShard]) -> None:
    shards = f"{len(whole):,} of {len(dataset.shards):,} shards"
    tokens = f"{sum(shard.record.tokens for shard in whole):,} tokens"
    checks["index"].covers = f"{shards}, {sum(shard.record.sequences for shard in whole):,} sequences"
    checks["ids"].covers = f"{shards}, {tokens}"
    checks[
        "provenance"
    ].covers = f"{shards}, {sum(shard.record.documents for shard in whole):,} documents, {tokens}"
    if dataset.manifest.loss_mask:
        checks["masks"].covers = f"{shards}, {tokens}"
    else:
        checks["masks"].skip("nothing: there is no loss mask")


def _check_totals(dataset: TokenDataset, check: Check, covered: Covered) -> None:
    """Compare the manifest with itself, and with what is in the shards where all of them could be read."""
    manifest, where = dataset.manifest, str(dataset.folder / MANIFEST)
    for name in ("documents", "tokens", "sequences", "padding"):
        total, summed = getattr(manifest.totals, name), sum(getattr(each, name) for each in manifest.shards)
        if total != summed:
            check.finds(where, f"the total of {name} is {total:,}, but the shards' sum is {summed:,}")
    check.covers = f"{len(manifest.shards):,} shards"
    if covered.shards < len(manifest.shards):
        return
    check.covers += f" and {len(manifest.inputs):,} inputs"
    for number, each in enumerate(manifest.inputs):
        tokens, documents = int(covered.tokens[number]), int(covered.documents[number])
        if tokens != each.tokens:
            check.finds(
                where, f"{each.name} has {tokens:,} tokens, where the manifest counts {each.tokens:,}"
            )
        if documents != each.documents and not covered.unplaced:
            problem = f"{each.name} has {documents:,} documents, where the manifest counts {each.documents:,}"
            check.finds(where, problem)

"""Proof, from the files alone, that a run is what it claims to be.

The trajectory files are read once, a batch of columns at a time; what is kept is one small entry per sample
and group, so memory does not grow with the length of responses. Records that a killed run left in its ledger
are read after the files, as of the moment at which the audit began.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from asynckit.errors import InputError
from asynckit.rollout.afterwards.audit_records import Kept, Records, Terms
from asynckit.rollout.afterwards.audit_report import Audit, Check
from asynckit.rollout.afterwards.audit_summary import differences
from asynckit.rollout.afterwards.ledger_reader import Entry, LedgerReader
from asynckit.rollout.afterwards.part_reader import Batch, in_columns, read_batches
from asynckit.rollout.afterwards.run_reader import Run
from asynckit.rollout.ledger import NAME as LEDGER

CLAIMS = {
    "settings": "config.json is as the run wrote it",
    "files": "every trajectory file is readable and whole",
    "temporaries": "no unfinished file is left",
    "records": "every record keeps the schema's rules",
    "unique": "no sample is there twice",
    "uids": "every uid is the hash of its group and index",
    "names": "every group id and seed is the hash of its prompt, place, seed and settings",
    "groups": "every group has its n samples, in one piece",
    "ledger": "ledger and files name the same groups, parts and ends",
    "ends": "every submitted group has ended, or is owed by a run that is not over",
    "advantages": "every advantage is that of its group's rewards",
    "versions": "policy versions never decrease within a response",
    "staleness": "no token was too old when the learner took it",
    "summary": "summary.json agrees with the records",
}


def audit(run: Run, terms: Terms, seen: Callable[[int], None] = lambda _: None) -> Audit:
    """Check everything that can be checked.

    Args:
        run: the run.
        terms: what its settings promise.
        seen: called now and then with the number of records read so far.

    Raises:
        InputError: the folder of trajectories is missing.
    """
    checks = {name: Check(name, claim) for name, claim in CLAIMS.items()}
    status = _status(run, checks)
    with ExitStack() as stack:
        ledger, entries = _open(run, checks["ledger"], stack)
        places = {entry.id: place for place, entry in enumerate(entries)}
        records = Records(terms, places, checks)
        parts = run.parts()
        for path in parts:
            records.begin(path.name)
            for batch in read_batches(path, f"trajectories/{path.name}", checks["files"]):
                records.take(batch)
                seen(records.count)
            records.end_group()
        in_parts = records.count
        records.begin(LEDGER)
        for batch in _uncommitted(ledger, records.groups, checks):
            records.take(batch)
        records.end_group()
    over = status == "done"
    size = sum(path.stat().st_size for path in parts)
    checks["files"].covers = f"{len(parts)} files, {in_parts:,} records, {size:,} bytes"
    _check_settings(checks["settings"], terms)
    _check_temporaries(checks["temporaries"], run, over=over)
    _check_ledger(checks["ledger"], entries, records.groups, {path.name for path in parts}, over=over)
    _check_ends(checks["ends"], entries, over=over)
    _check_summary(checks["summary"], run, records, entries, status)
    _say_what_was_covered(checks, records, terms, entries)
    return Audit(run.path, status, records.count, list(checks.values()), records.ages)


def _status(run: Run, checks: dict[str, Check]) -> str:
    try:
        return run.status()
    except InputError:  # which file is damaged is found again, and noted, by its own check
        checks["ends"].skip("the summary or the ledger cannot be read")
        return "damaged"


def _open(run: Run, check: Check, stack: ExitStack) -> tuple[LedgerReader | None, list[Entry]]:
    """The ledger and its groups; None and nothing if it can't be read."""
    try:
        ledger = stack.enter_context(run.ledger())
        for problem in ledger.problems():
            check.finds(LEDGER, "", problem)
        return ledger, list(ledger.entries())
    except InputError as error:
        check.finds(LEDGER, "", error.message)
        return None, []


def _uncommitted(
    ledger: LedgerReader | None, groups: dict[str, Kept], checks: dict[str, Check]
) -> Iterator[Batch]:
    """The records that are in no trajectory file yet."""
    if ledger is None:
        return
    try:
        for group in ledger.uncommitted():
            if group.id not in groups:
                where = f"{LEDGER}:{group.id}"
                yield from in_columns([(where, each) for each in group.trajectories], checks["ledger"])
    except InputError as error:
        checks["ledger"].finds(error.where.rpartition("/")[2] or LEDGER, "", error.message)


def _check_settings(check: Check, terms: Terms) -> None:
    check.covers = "its digest"
    if terms.intact is None:
        check.skip("it holds secrets, which are masked, or is of another version of asynckit")
    elif not terms.intact:
        check.finds("config.json", "", "the settings have another digest than was written with them")


def _check_temporaries(check: Check, run: Run, *, over: bool) -> None:
    found = sorted(
        path.relative_to(run.path)
        for folder in (run.path, run.trajectories)
        for path in folder.glob(".*.tmp")
    )
    check.covers = f"{len(found)} found"
    if found and not over:
        check.covers += ", which a run may have that is not over"
        return
    for path in found:
        check.finds(str(path), "", "left by a process that died while it wrote")


def _check_ledger(
    check: Check, entries: list[Entry], groups: dict[str, Kept], parts: set[str], *, over: bool
) -> None:
    """Both directions: what the ledger names is in the files, and what is in the files the ledger names."""
    if check.broken and not entries:
        return  # it can't be read, which is noted
    check.covers = f"{len(entries):,} groups in the ledger, {len(groups):,} with records"
    known = {entry.id: entry for entry in entries}
    named = {entry.part for entry in entries if entry.part}
    for part in sorted(named - parts):
        check.finds(f"trajectories/{part}", "", "the ledger names it, and it is not there")
    for group_id, kept in groups.items():
        problem = _why_not_as_known(known.get(group_id), kept, named, over=over)
        if problem:
            check.finds(kept.where, group_id, problem)
    for entry in entries:
        if entry.state in ("committed", "completed") and entry.id not in groups:
            place = f"trajectories/{entry.part}" if entry.part else LEDGER
            check.finds(place, entry.id, f"the ledger says {entry.state}, and it has no records there")


def _why_not_as_known(entry: Entry | None, kept: Kept, named: set[str], *, over: bool) -> str:
    if entry is None:
        return "the ledger does not know this group"
    ends = {each for each in kept.statuses if each not in ("completed", "truncated")} or {"completed"}
    if kept.file == LEDGER:
        if over:
            return "it is in no trajectory file, and the run is over"
    elif entry.state != "committed":
        # A part is entered into the ledger after it has got its name.
        return "" if not over and kept.file not in named else f"the ledger says {entry.state}"
    elif entry.part != kept.file:
        return f"the ledger says that it is in {entry.part}"
    return (
        ""
        if entry.status in ends
        else f"the ledger says {entry.status}, its records {' and '.join(sorted(ends))}"
    )


def _check_ends(check: Check, entries: list[Entry], *, over: bool) -> None:
    ended = Counter(entry.status for entry in entries if entry.state in ("completed", "committed"))
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(ended.items(), key=str))
    owed = [entry for entry in entries if entry.state in ("submitted", "running")]
    check.covers = f"{counts or 'none ended'}, {len(owed):,} owed, of {len(entries):,} submitted"
    if owed and not over:
        check.covers += "; the run is not over, and --resume goes on with it"
    for entry in owed if over else ():
        check.finds(LEDGER, entry.id, f"the run is over, and this group is {entry.state}")
    for entry in entries:
        if entry.state not in ("submitted", "running", "completed", "committed"):
            check.finds(LEDGER, entry.id, f"there is no state {entry.state}")


def _check_summary(check: Check, run: Run, records: Records, entries: list[Entry], status: str) -> None:
    try:
        summary = run.summary()
    except InputError as error:
        check.finds("summary.json", "", error.message)
        return
    if summary is None or status in ("running", "cut off"):
        check.skip("there is none" if summary is None else "it is of an earlier attempt")
        return
    ended = (entry for entry in entries if entry.state in ("completed", "committed") and entry.status)
    records.tally.groups = Counter(str(entry.status) for entry in ended)
    files = [f"trajectories/{path.name}" for path in run.parts()]
    check.covers = "counts, rewards, tokens, lengths, files and errors"
    for problem in differences(summary, records.tally, len(entries), files):
        check.finds("summary.json", "", problem)


def _say_what_was_covered(
    checks: dict[str, Check], records: Records, terms: Terms, entries: list[Entry]
) -> None:
    groups = f"{len(records.groups):,} groups"
    for name in ("records", "unique", "uids", "versions"):
        checks[name].covers = f"{records.count:,} records"
    checks["groups"].covers = f"{groups}, n = {terms.n}"
    checks["advantages"].covers = groups
    checks["names"].covers = f"{records.named:,} of {groups}"
    if not entries:
        checks["names"].skip("without the ledger nobody knows a group's place in the run")
    if terms.max_staleness is None:
        checks["staleness"].covers = "no learner: nothing may have been consumed"
        return
    tokens = records.ages.total()
    most = f", the oldest {max(records.ages)}" if tokens else ""
    checks["staleness"].covers = f"{tokens:,} tokens; {terms.max_staleness} versions are allowed{most}"

"""The groups of a run: as many as are wanted, and others in the place of those that are filtered.

Group number ``i`` is made from the prompt at position ``i``. The k-th group that is filtered is replaced by
the k-th position after the wanted ones, whichever it was, so what a run commits in the end doesn't depend on
the order in which groups end.
"""

import time
from collections.abc import Sequence

from asynckit.errors import InputError
from asynckit.rollout.group import Group, group_seed
from asynckit.rollout.job import Job
from asynckit.rollout.prompting.prompt_stream import PromptStream
from asynckit.rollout.record import group_id

_REPLACEMENTS_PER_GROUP = 10


class Supply:
    """What a run generates.

    Args:
        stream: its prompts.
        job: the run.

    Attributes:
        wanted: groups that are to end other than filtered.
        groups: those submitted so far, in order.
    """

    def __init__(self, stream: PromptStream, job: Job) -> None:
        self._stream = stream
        self._job = job
        self.wanted = job.rollout.total_rollout_steps or len(stream)
        limit = job.rollout.max_replacements
        self._most = self.wanted + (_REPLACEMENTS_PER_GROUP * self.wanted if limit is None else limit)
        self.groups: list[Group] = []
        self.more(self.wanted)

    def more(self, count: int) -> list[Group]:
        """The next groups, fewer than ``count`` where no more may be replaced."""
        now = time.time()
        first, last = len(self.groups), min(len(self.groups) + max(0, count), self._most)
        new = [self._group(position, now) for position in range(first, last)]
        self.groups += new
        return new

    def restore(self, known: Sequence[str], filtered: int) -> None:
        """Go on where an earlier attempt was.

        Args:
            known: the groups that it had submitted, in order; none if it had not come that far.
            filtered: how many of them were filtered.

        Raises:
            InputError: the prompts are not those that the run was begun with.
        """
        self._most = max(self._most, len(known))
        self.more(max(len(known), self.wanted + filtered) - len(self.groups))
        own = [group.id for group in self.groups]
        if known and list(known) != own[: len(known)]:
            raise InputError(
                f"the prompts are not those of the run: {self.wanted} now, {len(known)} then, "
                f"{len(set(known) & set(own))} of them the same",
                where=str(self._job.folder),
                mend="resume with the prompts as they were, or begin a new run",
            )

    def _group(self, position: int, now: float) -> Group:
        prompt, job = self._stream.at(position), self._job
        return Group(
            id=group_id(prompt, job.sampling.seed, job.identity),
            prompt=prompt,
            n=job.rollout.n,
            seed=group_seed(prompt, job.sampling.seed),
            queued=now,
        )

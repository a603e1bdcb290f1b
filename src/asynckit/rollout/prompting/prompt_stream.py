"""The prompts of a run, epoch after epoch, by position and without end."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from asynckit.engine.counter import uniform
from asynckit.rollout.prompting.prompts import Prompt

_KEPT_ORDERS = 2  # who follows the stream is in one epoch, and sometimes looks back into the one before


class PromptStream:
    """Every prompt once per epoch; a pure function of the position, the same on every machine.

    Shuffling exchanges prompts of the same source only. Which source a position belongs to stays as it was
    mixed, so the weights hold in every epoch, shuffled or not.

    Args:
        prompts: one epoch, mixed, as ``load_prompts`` gives it; not empty.
        epochs: in ``len(stream)``.
        shuffle: whether every epoch has an order of its own; otherwise all have that of ``prompts``.
        seed: of the shuffle.
    """

    def __init__(self, prompts: Sequence[Prompt], *, epochs: int, shuffle: bool, seed: int) -> None:
        assert prompts
        assert epochs > 0
        self._prompts = prompts
        self._epochs = epochs
        self._shuffle = shuffle
        self._seed = seed
        self._orders: dict[int, array[int]] = {}

    def __len__(self) -> int:
        """Positions in all epochs."""
        return len(self._prompts) * self._epochs

    def at(self, position: int) -> Prompt:
        """The prompt at a position from 0, which is its ``index``; from ``len`` on, those of further epochs.

        With ``shuffle``, the first look into an epoch takes about two seconds per million prompts, and an
        order in memory has 8 bytes per prompt.
        """
        assert position >= 0
        epoch, place = divmod(position, len(self._prompts))
        prompt = self._prompts[self._order(epoch)[place] if self._shuffle else place]
        return prompt if prompt.index == position else replace(prompt, index=position)

    def _order(self, epoch: int) -> "array[int]":
        if epoch not in self._orders:
            while len(self._orders) >= _KEPT_ORDERS:
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = shuffled((prompt.source for prompt in self._prompts), self._seed, epoch)
        return self._orders[epoch]


def shuffled(sources: Iterable[str], seed: int, epoch: int) -> "array[int]":
    """For every place of an epoch the place whose prompt stands there now, of the same source.

    Args:
        sources: the source of each place.
        seed: together with ``epoch`` it decides the order.
        epoch: from 0.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, source in enumerate(sources):
        places[source].append(place)
    order = array("q", bytes(8 * sum(map(len, places.values()))))
    for own in places.values():
        for place, chosen in zip(own, sorted(own, key=lambda it: uniform(seed, epoch, it)), strict=True):
            order[place] = chosen
    return order

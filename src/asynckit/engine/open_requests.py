"""The requests of an engine that have not ended: who is known, how each ends, what new weights do to them."""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf

from asynckit.engine.request import Finish, OnUpdate, Request, Sequence, TokenEvent
from asynckit.engine.scheduler import Scheduler
from asynckit.engine.validate import check_types
from asynckit.errors import InputError, RequestError

_MEND = "update the weights again, or load the engine anew"


class OpenRequests:
    """Every sample from its arrival to its end, which comes once.

    Args:
        scheduler: runs the samples.
        let_go: called when a sample ends, before its blocks are free: frees what else the engine keeps for
            it. Its request is unknown by then if this was its last sample.

    Attributes:
        version: of the weights that sample now.
    """

    def __init__(self, scheduler: Scheduler, let_go: Callable[[Sequence, Finish], object]) -> None:
        self.version = 0
        self._scheduler = scheduler
        self._let_go = let_go
        self._samples: dict[str, list[Sequence]] = {}
        self._out_of_order = ""  # why nobody can be served
        self._ended: list[TokenEvent] = []  # ends decided outside a step; the next step reports them

    def __contains__(self, request_id: object) -> bool:
        return isinstance(request_id, str) and request_id in self._samples  # what is no name may have no hash

    def check_new(self, request: Request) -> None:
        """Refuse a request whose fields have the wrong types or whose id is taken; comes before other checks.

        Raises:
            RequestError: it does, a request with this id has not ended, or no request can be served any more.
        """
        check_types(request)
        self.check_order(request.id)
        if request.id in self:
            raise RequestError("a request with this id is already running", where=f"request {request.id!r}")

    def check_order(self, request_id: str) -> None:
        """Refuse what would use broken weights.

        Raises:
            RequestError: they are.
        """
        if self._out_of_order:
            raise RequestError(
                f"the engine serves nobody: {self._out_of_order}", where=f"request {request_id!r}", mend=_MEND
            )

    def add(self, sequences: SequenceOf[Sequence]) -> None:
        """Queue the samples of one request that was checked."""
        self._samples[sequences[0].request.id] = list(sequences)
        self._scheduler.add(list(sequences))

    def abort(self, request_id: str) -> None:
        """End every sample of a request that has not ended; unknown ids do nothing."""
        if request_id in self:
            for sequence in list(self._samples[request_id]):
                self._ended.append(self.end(sequence, Finish.ABORT))

    def end(self, sequence: Sequence, finish: Finish, error: str = "") -> TokenEvent:
        """End one sample; returns the event that says so, for a sample that ends without a token."""
        request = sequence.request
        self._samples[request.id].remove(sequence)
        if not self._samples[request.id]:
            del self._samples[request.id]
        self._let_go(sequence, finish)
        self._scheduler.end(sequence, finish)
        return TokenEvent(request.id, sequence.sample_index, None, 0.0, self.version, finish, error)

    def take_ended(self) -> list[TokenEvent]:
        """The events of ends that no step has reported, for this step to report."""
        events, self._ended = self._ended, []
        return events

    def has_work(self) -> bool:
        """Whether a step would do or report anything."""
        return bool(self._ended) or self._scheduler.has_work()

    def check_update(self, version: int, on_update: OnUpdate | str, *, same: bool = False) -> OnUpdate:
        """Refuse weights that are not newer than the present ones; returns what becomes of the requests.

        Args:
            version: of the weights.
            on_update: what is asked for.
            same: whether only the version is new.

        Raises:
            InputError: the version is no integer or doesn't grow, ``on_update`` is no :class:`OnUpdate`, or
                the present weights are broken and no others come.
        """
        where = "update_weights"
        if same and self._out_of_order:
            raise InputError(
                f"the present weights can't be kept: {self._out_of_order}", where=where, mend=_MEND
            )
        if type(version) is not int:
            raise InputError(f"version must be an integer, not {version!r}", where=where, mend="pass an int")
        if version <= self.version:
            raise InputError(
                f"the new weights' version {version} is not above the present {self.version}", where=where
            )
        try:
            return OnUpdate(on_update)
        except ValueError as error:
            names = ", ".join(OnUpdate)
            raise InputError(
                f"on_update must be one of {names}, not {on_update!r}", where=where, mend="pass one of them"
            ) from error

    def weights_changed(self, version: int, on_update: OnUpdate) -> None:
        """Carry on with new weights: nobody new may build on what the old ones computed and cached."""
        self.version = version
        self._out_of_order = ""
        self._scheduler.clear_prefix_cache()
        if on_update is OnUpdate.RECOMPUTE_KV:
            self._scheduler.recompute_all()
        elif on_update is OnUpdate.ABORT:
            for request_id in list(self._samples):
                self.abort(request_id)

    def weights_broken(self, reason: str) -> None:
        """End everybody with an error and refuse every request, until new weights are whole."""
        self._out_of_order = reason
        for sequence in [s for samples in self._samples.values() for s in samples]:
            self._ended.append(self.end(sequence, Finish.ERROR, reason))

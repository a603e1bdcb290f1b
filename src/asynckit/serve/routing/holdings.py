"""The adapters and weights that every replica must have, whenever it was started."""

from dataclasses import dataclass, field

from asynckit.serve.messages import Adapter, LoadAdapter, UnloadAdapter, UpdateWeights, WasReset

Change = LoadAdapter | UnloadAdapter | UpdateWeights


@dataclass
class Holdings:
    """What has been loaded since the server was started, as the first replica tells and calls change it.

    A router that is started anew knows nothing, and replicas go on with what they have: the first one that
    another router has talked to defines it, and newer weights win. One that was started anew defines it only
    as long as nobody knows better.

    Attributes:
        revision: grows whenever a replica tells something that others may lack.
        fresh: whether only replicas that were started anew have told.
        adapters: folders by name; None before a replica has told.
        version: of the weights.
        weights: their folder; empty for those that the model was loaded with.
    """

    adapters: dict[str, str] | None = None
    version: int = 0
    weights: str = ""
    revision: int = 0
    fresh: bool = True
    _since: list[Change] = field(default_factory=list, repr=False)  # calls while only new replicas had told
    _calls: int = field(default=0, repr=False)

    def learn(self, was: WasReset) -> list[Change]:
        """What a replica must do to have the same as the others."""
        known = self.adapters, self.version
        if self.adapters is None or (self.fresh and not was.fresh):
            self.fresh = was.fresh
            self.adapters = {adapter.name: adapter.folder for adapter in was.adapters}
            for change in self._since:
                self._apply(change)
        if was.version > self.version:
            self.version, self.weights = was.version, was.weights
        self.revision += (self.adapters, self.version) != known
        return self._lacking(was)

    def _lacking(self, was: WasReset) -> list[Change]:
        assert self.adapters is not None
        has = {adapter.name: adapter.folder for adapter in was.adapters}
        changes: list[Change] = [
            UnloadAdapter(self._id(), "", name)
            for name, folder in has.items()
            if self.adapters.get(name) != folder
        ]
        changes += [
            LoadAdapter(self._id(), "", name, folder)
            for name, folder in self.adapters.items()
            if has.get(name) != folder
        ]
        if was.version < self.version:
            changes.append(UpdateWeights(self._id(), "", self.version, self.weights))
        return changes

    def settle(self) -> bool:
        """All replicas have told; returns whether all of them were started anew, for the first time."""
        fresh, self.fresh = self.fresh, False
        self._since.clear()
        return fresh

    def changed(self, change: Change) -> None:
        """The replicas have carried out a call."""
        if self.fresh:
            self._since.append(change)
        self._apply(change)

    def _apply(self, change: Change) -> None:
        assert self.adapters is not None
        match change:
            case LoadAdapter(_, _, name, folder):
                self.adapters[name] = folder
            case UnloadAdapter(_, _, name):
                self.adapters.pop(name, None)
            case UpdateWeights(_, _, version, folder):
                if version >= self.version:
                    self.version, self.weights = version, folder

    def listing(self) -> tuple[Adapter, ...]:
        """The adapters, by name."""
        return tuple(Adapter(name, folder) for name, folder in sorted((self.adapters or {}).items()))

    def undo(self, change: LoadAdapter | UnloadAdapter) -> list[Change]:
        """What takes a call back on a replica that has carried it out."""
        back: list[Change] = []
        if isinstance(change, LoadAdapter):
            back.append(UnloadAdapter(self._id(), "", change.name))
        if folder := (self.adapters or {}).get(change.name):
            back.append(LoadAdapter(self._id(), "", change.name, folder))
        return back

    def _id(self) -> str:
        """An id that no HTTP server gives."""
        self._calls += 1
        return f"router-{self._calls}"

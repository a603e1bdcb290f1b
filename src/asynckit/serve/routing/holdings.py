"""The adapters and weights that every replica must have, whenever it was started."""

from dataclasses import dataclass, field

from asynckit.serve.messages import Adapter, LoadAdapter, UnloadAdapter, UpdateWeights, WasReset

Change = LoadAdapter | UnloadAdapter | UpdateWeights


@dataclass
class Holdings:
    """What has been loaded since the server was started, as the first replica tells and calls change it.

    A router that is started anew knows nothing, and replicas go on with what they have: the first one that
    answers defines it, and newer weights win.

    Attributes:
        adapters: folders by name; None before a replica has told.
        version: of the weights.
        weights: their folder; empty for those that the model was loaded with.
    """

    adapters: dict[str, str] | None = None
    version: int = 0
    weights: str = ""
    _calls: int = field(default=0, repr=False)

    def learn(self, was: WasReset) -> list[Change]:
        """What a replica must do to have the same as the others."""
        if self.adapters is None:
            self.adapters = {adapter.name: adapter.folder for adapter in was.adapters}
        if was.version > self.version:
            self.version, self.weights = was.version, was.weights
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

    def changed(self, change: Change) -> None:
        """The replicas have carried out a call."""
        assert self.adapters is not None
        match change:
            case LoadAdapter(_, _, name, folder):
                self.adapters[name] = folder
            case UnloadAdapter(_, _, name):
                self.adapters.pop(name, None)
            case UpdateWeights(_, _, version, folder):
                self.version, self.weights = version, folder

    def listing(self) -> tuple[Adapter, ...]:
        """The adapters, by name."""
        return tuple(Adapter(name, folder) for name, folder in sorted((self.adapters or {}).items()))

    def undo(self, change: Change) -> Change | None:
        """What takes a call back on a replica that has carried it out; None where nothing does."""
        if isinstance(change, LoadAdapter):
            return UnloadAdapter(self._id(), "", change.name)
        if isinstance(change, UnloadAdapter) and change.name in (self.adapters or {}):
            return LoadAdapter(self._id(), "", change.name, (self.adapters or {})[change.name])
        return None

    def _id(self) -> str:
        """An id that no HTTP server gives."""
        self._calls += 1
        return f"router-{self._calls}"

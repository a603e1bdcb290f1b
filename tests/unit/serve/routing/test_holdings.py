"""Replicas that were restarted end up with what the others have."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from asynckit.serve.messages import Adapter, LoadAdapter, UnloadAdapter, UpdateWeights, WasReset
from asynckit.serve.routing.holdings import Change, Holdings

NAMES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["/1", "/2"]))


def _was(adapters: dict[str, str], version: int = 0, weights: str = "", *, fresh: bool = False) -> WasReset:
    return WasReset(1, tuple(Adapter(*each) for each in adapters.items()), version, weights, fresh)


@given(NAMES, NAMES, st.integers(0, 3), st.integers(0, 3))
def test_changes_make_replicas_alike(
    first: dict[str, str], second: dict[str, str], version: int, other: int
) -> None:
    """After the calls that it is given, a replica has the others' adapters and at least their weights."""
    holdings = Holdings()
    assert holdings.learn(_was(first, version, "/w")) == []
    has, at = dict(second), other
    for change in holdings.learn(_was(second, other, "/v")):
        match change:
            case LoadAdapter(_, _, name, folder):
                assert name not in has
                has[name] = folder
            case UnloadAdapter(_, _, name):
                del has[name]
            case UpdateWeights(_, _, at, _):
                pass
    assert has == first
    assert at == holdings.version == max(version, other)


@given(st.lists(st.tuples(NAMES, st.integers(0, 3), st.booleans()), min_size=1, max_size=4))
def test_those_who_told_first_hear_of_what_others_have(told: list[tuple[dict[str, str], int, bool]]) -> None:
    """If nothing was new since a replica told, it lacks nothing; who was started anew decides nothing."""
    holdings = Holdings()
    lacking: list[tuple[int, WasReset]] = []
    for adapters, version, fresh in told:
        was = _was(adapters, version, f"/{version}", fresh=fresh)
        changes = holdings.learn(was)
        lacking.append((holdings.revision, structs.replace(_after(was, changes), fresh=False)))
    for revision, has in lacking:
        if revision == holdings.revision:
            assert holdings.learn(has) == []
    assert holdings.version == max(version for _, version, _ in told)
    elders = [adapters for adapters, _, fresh in told if not fresh]
    assert holdings.adapters == (elders or [told[0][0]])[0]


def _after(was: WasReset, changes: list[Change]) -> WasReset:
    """What the replica has when it has carried these out."""
    has = {adapter.name: adapter.folder for adapter in was.adapters}
    version = was.version
    for change in changes:
        match change:
            case LoadAdapter(_, _, name, folder):
                has[name] = folder
            case UnloadAdapter(_, _, name):
                del has[name]
            case UpdateWeights(_, _, version, _):
                pass
    return _was(has, version, was.weights)


def test_calls_change_what_is_held() -> None:
    """What was carried out is what the next replica gets, and can be taken back."""
    holdings = Holdings()
    holdings.learn(_was({}))
    load = LoadAdapter("1", "http-0", "a", "/a")
    (back,) = holdings.undo(load)
    assert isinstance(back, UnloadAdapter)
    assert back.name == "a"
    holdings.changed(load)
    holdings.changed(UpdateWeights("2", "http-0", 5, "/w"))
    assert holdings.listing() == (Adapter("a", "/a"),)
    restored = [type(change) for change in holdings.learn(_was({}))]
    assert restored == [LoadAdapter, UpdateWeights]
    unload = UnloadAdapter("3", "http-0", "a")
    (again,) = holdings.undo(unload)
    assert isinstance(again, LoadAdapter)
    assert again.folder == "/a"
    first, second = holdings.undo(LoadAdapter("4", "http-0", "a", "/other"))  # what it replaced comes back
    assert isinstance(first, UnloadAdapter)
    assert isinstance(second, LoadAdapter)
    assert second.folder == "/a"
    holdings.changed(unload)
    assert holdings.listing() == ()

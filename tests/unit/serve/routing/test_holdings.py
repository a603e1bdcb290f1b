"""Replicas that were restarted end up with what the others have."""

from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.messages import Adapter, LoadAdapter, UnloadAdapter, UpdateWeights, WasReset
from asynckit.serve.routing.holdings import Holdings

NAMES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["/1", "/2"]))


def _was(adapters: dict[str, str], version: int = 0, weights: str = "") -> WasReset:
    return WasReset(1, tuple(Adapter(*each) for each in adapters.items()), version, weights)


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


def test_calls_change_what_is_held() -> None:
    """What was carried out is what the next replica gets, and can be taken back."""
    holdings = Holdings()
    holdings.learn(_was({}))
    load = LoadAdapter("1", "http-0", "a", "/a")
    back = holdings.undo(load)
    assert isinstance(back, UnloadAdapter)
    assert back.name == "a"
    holdings.changed(load)
    holdings.changed(UpdateWeights("2", "http-0", 5, "/w"))
    assert holdings.listing() == (Adapter("a", "/a"),)
    restored = [type(change) for change in holdings.learn(_was({}))]
    assert restored == [LoadAdapter, UpdateWeights]
    unload = UnloadAdapter("3", "http-0", "a")
    again = holdings.undo(unload)
    assert isinstance(again, LoadAdapter)
    assert again.folder == "/a"
    holdings.changed(unload)
    assert holdings.listing() == ()

"""Open requests: every sample ends once, is let go of, and says so in the next step."""

from typing import Any

import pytest

from asynckit.engine.blocks import BlockPool
from asynckit.engine.config import SamplingParams
from asynckit.engine.open_requests import OpenRequests
from asynckit.engine.request import Finish, OnUpdate, Request, Sequence, TokenEvent
from asynckit.engine.scheduler import Scheduler
from asynckit.errors import InputError, RequestError

NAN = float("nan")


def scheduler() -> Scheduler:
    return Scheduler(BlockPool(64, 4), max_running=8, max_step_tokens=64, max_model_len=64)


def samples(name: str, n: int = 2) -> list[Sequence]:
    request = Request(name, (5,) * 6, SamplingParams(), n)
    return [Sequence(request, index, list(request.prompt_ids)) for index in range(n)]


def ends(events: list[TokenEvent]) -> list[tuple[str, int, Finish | None]]:
    return [(event.request_id, event.sample_index, event.finish) for event in events]


def test_a_request_is_known_until_its_last_sample_ends() -> None:
    """Its id is free again then, and not before."""
    mine = samples("a")
    known = OpenRequests(scheduler(), lambda *_: None)
    known.add(mine)
    known.end(mine[0], Finish.STOP)
    with pytest.raises(RequestError, match="already running"):
        known.check_new(mine[0].request)
    event = known.end(mine[1], Finish.ERROR, "why")
    assert (event.sample_index, event.finish, event.error) == (1, Finish.ERROR, "why")
    known.check_new(mine[0].request)
    assert "a" not in known
    assert not known.has_work()


def test_aborted_samples_are_reported_by_the_next_step() -> None:
    """Once, whatever is aborted again or was never there."""
    known = OpenRequests(scheduler(), lambda *_: None)
    known.add(samples("a"))
    names: tuple[Any, ...] = ("a", "a", "b", [], None)
    for name in names:
        known.abort(name)
    assert known.has_work()
    assert ends(known.take_ended()) == [("a", 0, Finish.ABORT), ("a", 1, Finish.ABORT)]
    assert known.take_ended() == []
    assert not known.has_work()


def test_a_sample_is_let_go_of_while_it_has_its_blocks() -> None:
    """What is in them can be wiped before somebody else gets them."""
    mine, plans = samples("a"), scheduler()
    seen = []

    def let_go(sequence: Sequence, finish: Finish) -> None:
        seen.append((sequence.sample_index, finish, bool(sequence.blocks), "a" in known))

    known = OpenRequests(plans, let_go)
    known.add(mine)
    plans.commit(plans.plan())
    for sequence in mine:
        known.end(sequence, Finish.ERROR)
    assert seen == [(0, Finish.ERROR, True, True), (1, Finish.ERROR, True, False)]
    assert plans.statistics().kv_usage == 0


def test_new_weights_must_be_newer_and_can_end_what_runs() -> None:
    """Ends carry the version of the weights that are there by then."""
    known = OpenRequests(scheduler(), lambda *_: None)
    known.add(samples("a"))
    known.add(samples("b", 1))
    known.weights_changed(3, known.check_update(3, OnUpdate.KEEP_KV))
    assert known.take_ended() == []
    with pytest.raises(InputError, match="3 is not above the present 3"):
        known.check_update(3, OnUpdate.KEEP_KV)
    known.weights_changed(4, OnUpdate.ABORT)
    events = known.take_ended()
    assert ends(events) == [("a", 0, Finish.ABORT), ("a", 1, Finish.ABORT), ("b", 0, Finish.ABORT)]
    assert {event.version for event in events} == {4}


@pytest.mark.parametrize("version", [NAN, 1.5, 1.0, True, "3", None, [3]])
def test_a_version_is_an_integer(version: Any) -> None:
    """Records keep it as one, and what does not compare would pass for newer."""
    with pytest.raises(InputError, match="version must be an integer"):
        OpenRequests(scheduler(), lambda *_: None).check_update(version, OnUpdate.KEEP_KV)


@pytest.mark.parametrize("on_update", ["whatever", "", None, [], 1])
def test_what_becomes_of_requests_is_one_of_three(on_update: Any) -> None:
    """Anything else would silently mean that they go on; a name of the three is as good as the value."""
    known = OpenRequests(scheduler(), lambda *_: None)
    assert known.check_update(1, "abort") is OnUpdate.ABORT
    with pytest.raises(InputError, match="must be one of keep_kv, recompute_kv, abort"):
        known.check_update(1, on_update)


def test_broken_weights_serve_nobody_until_an_update_succeeds() -> None:
    """Everybody ends with an error, new requests are refused, and the next whole weights mend it."""
    known = OpenRequests(scheduler(), lambda *_: None)
    known.add(samples("a"))
    known.weights_broken("an update broke off")
    events = known.take_ended()
    assert ends(events) == [("a", 0, Finish.ERROR), ("a", 1, Finish.ERROR)]
    assert {(event.error, event.version) for event in events} == {("an update broke off", 0)}
    request = samples("b")[0].request
    with pytest.raises(RequestError, match="serves nobody: an update broke off"):
        known.check_new(request)
    known.weights_changed(1, known.check_update(1, OnUpdate.KEEP_KV))
    known.check_new(request)

"""Who is started, killed and told what, whatever happens in whatever order."""

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from asynckit.serve.control_messages import Facts, Failed, Lost, Peers
from asynckit.serve.roster import Action, GiveUp, Kill, Roster, Start, Tell, posts_for

FACTS = Facts(512, 100, 1024, 8)


def roster(**changes: float) -> Roster:
    """One replica of two ranks, and everybody else once."""
    limits = {"heartbeat_timeout": 5.0, "step_timeout": 60.0, "start_timeout": 100.0, **changes}
    return Roster(posts_for(http_processes=1, replicas=1, tp=2), max_restarts=2, **limits)


NAMES = ["worker-0-0", "worker-0-1", "router", "detokenizer", "http-0"]


def made_ready(now: float = 0.0) -> Roster:
    """Everybody was started and is ready."""
    found = roster()
    found.begin(now)
    for name in NAMES:
        found.ready(name, 0, f"ipc://{name}", FACTS if name.startswith("worker") else None, now)
    return found


def of_kind(actions: Iterable[Action], kind: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def test_everybody_is_started_and_introduced_to_everybody() -> None:
    """The last one to be ready completes the server, and each hears all addresses."""
    found = roster()
    assert [action.post.name for action in found.begin(0.0) if isinstance(action, Start)] == NAMES
    told: list[Action] = []
    for name in NAMES:
        assert not found.complete()
        told = found.ready(name, 0, f"ipc://{name}", FACTS if name == "worker-0-0" else None, 1.0)
    assert found.complete()
    assert found.complete_once
    assert told == [Tell(Peers({name: f"ipc://{name}" for name in NAMES}, FACTS, dict.fromkeys(NAMES, 0)))]


def test_a_dead_process_is_announced_and_started_as_its_next_generation() -> None:
    """Others hear that what it had is gone; its new address is another one."""
    found = made_ready()
    actions = found.exited("router", 0, "ended by SIGKILL", 1.0)
    assert actions[0] == Tell(Lost("router", "ended by SIGKILL", 0))
    assert [(a.post.name, a.generation) for a in actions if isinstance(a, Start)] == [("router", 1)]
    assert found.peers().addresses.keys() == set(NAMES) - {"router"}
    found.ready("router", 1, "ipc://router.1", None, 2.0)
    assert found.complete()
    assert found.peers().unique_name("router") == "router.1"
    again = found.exited("router", 1, "gone", 3.0)
    assert again[0] == Tell(Lost("router", "gone", 1))


def test_what_an_earlier_generation_says_is_ignored() -> None:
    """A late word of a dead process changes nothing."""
    found = made_ready()
    found.exited("router", 0, "gone", 1.0)
    assert found.ready("router", 0, "ipc://old", None, 1.5) == []
    assert found.beat("router", 0, 1e9, 1.5) == []
    assert found.exited("router", 0, "gone again", 1.5) == []
    assert found.peers().addresses.keys() == set(NAMES) - {"router"}


def test_the_ranks_of_a_replica_go_and_come_together() -> None:
    """They hold one model: the survivors are ended, and all are started when the last is gone."""
    found = made_ready()
    first = found.exited("worker-0-0", 0, "ended by SIGKILL", 1.0)
    assert not of_kind(first, Start)
    assert [a.name for a in first if isinstance(a, Kill)] == ["worker-0-1"]
    second = found.exited("worker-0-1", 0, "ended by SIGKILL", 1.1)
    started = [(a.post.name, a.generation) for a in second if isinstance(a, Start)]
    assert started == [("worker-0-0", 1), ("worker-0-1", 1)]


def test_silence_is_death() -> None:
    """Who has not been heard of for too long is ended, once; who beats is not."""
    found = made_ready()
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        for name in NAMES:
            if name != "http-0":
                found.beat(name, 0, 0.0, now)
        assert found.tick(now) == []
    assert found.tick(5.5) == [Kill("http-0", 0, "no sign of life for 5 s")]
    assert found.tick(5.6) == []


def test_a_step_without_end_is_death() -> None:
    """A process that beats but does not get on with its work is ended."""
    found = made_ready()
    assert found.beat("worker-0-0", 0, 59.0, 1.0) == []
    assert found.beat("worker-0-0", 0, 61.0, 1.5) == [
        Kill("worker-0-0", 0, "a step has taken more than 60 s")
    ]


def test_a_supervisor_that_slept_kills_nobody() -> None:
    """After a pause of its own it cannot know who was silent."""
    found = made_ready()
    assert found.tick(0.25) == []
    assert found.tick(100.0) == []
    assert found.tick(100.25) == []
    assert found.tick(101.0) == []


def test_who_cannot_start_ends_the_server_with_its_own_words() -> None:
    """Trying again would not help, and the person should read the reason."""
    found = roster()
    found.begin(0.0)
    failed = Failed("worker-0-0", 0, "ModelNotFound", "no such model", "--model", "name another")
    found.failed(failed)
    actions = found.exited("worker-0-0", 0, "ended with exit code 5", 1.0)
    assert actions[-1] == GiveUp("no such model", "worker-0-0", failed)
    assert not of_kind(actions, Start)


def test_who_takes_too_long_to_start_is_ended() -> None:
    """Waiting for a start has an end too."""
    found = roster()
    found.begin(0.0)
    found.ready("router", 0, "ipc://router", None, 1.0)
    kills: list[Action] = []
    for tenth in range(0, 1020, 10):
        found.beat("router", 0, 0.0, tenth / 10)
        kills += found.tick(tenth / 10)
    names = [name for name in NAMES if name != "router"]
    assert [a.name for a in kills if isinstance(a, Kill)] == names


def test_dying_too_often_ends_the_server() -> None:
    """A minute is how long a death counts."""
    found = made_ready()
    generation = 0
    for now in (10.0, 20.0, 75.0, 90.0):  # never three within a minute
        assert of_kind(found.exited("detokenizer", generation, "gone", now), Start)
        generation += 1
    assert of_kind(found.exited("detokenizer", generation, "gone", 95.0), GiveUp)


def test_nobody_is_started_while_the_server_ends() -> None:
    """Exits are what is waited for then."""
    found = made_ready()
    found.end()
    actions = found.exited("http-0", 0, "ended with exit code 0", 1.0)
    assert actions == [Tell(Lost("http-0", "ended with exit code 0"))]
    assert found.tick(1e6) == []


class Driven:
    """A roster with processes that do as it says: what is to be killed exits, what is started lives."""

    def __init__(self) -> None:
        self.roster, self.now, self.over = roster(), 0.0, False
        self.alive: dict[str, int] = {}
        self.obey(self.roster.begin(0.0))
        for name in NAMES:
            self.roster.ready(name, 0, "address", FACTS, 0.0)

    def obey(self, actions: list[Action]) -> None:
        """Carry out what the roster says."""
        for action in actions:
            if isinstance(action, Start):
                assert action.post.name not in self.alive, "two processes in one seat"
                self.alive[action.post.name] = action.generation
            elif isinstance(action, Kill):
                assert self.alive[action.name] == action.generation
                self.leave(action.name)
            self.over = self.over or isinstance(action, GiveUp)

    def leave(self, name: str) -> None:
        """Exit."""
        self.obey(self.roster.exited(name, self.alive.pop(name), "gone", self.now))

    def hang(self, name: str) -> None:
        """Get stuck."""
        self.obey(self.roster.beat(name, self.alive[name], 1e9, self.now))

    def be_ready(self, name: str) -> None:
        """Be ready, perhaps once more."""
        self.obey(self.roster.ready(name, self.alive[name], "address", None, self.now))

    def be_late(self, name: str) -> None:
        """Speak from the grave."""
        self.obey(self.roster.exited(name, self.alive[name] - 1, "gone", self.now))


EVENTS = st.tuples(
    st.sampled_from([Driven.leave, Driven.hang, Driven.be_ready, Driven.be_late]), st.sampled_from(NAMES)
)


@given(st.lists(EVENTS))
def test_whatever_happens_every_seat_has_one_process_or_the_server_ends(
    events: list[tuple[Callable[[Driven, str], None], str]],
) -> None:
    """Deaths, hangs, and words from the dead, in any order."""
    driven = Driven()
    for happen, name in events:
        driven.now += 1.0
        happen(driven, name)
        if driven.over:
            return
        assert driven.alive.keys() == set(NAMES)
        assert driven.roster.complete() == (driven.roster.peers().addresses.keys() == set(NAMES))

"""A person's function: everything wrong with it that can be known before its first call."""

from pathlib import Path

import pytest

from asynckit.errors import InputError
from asynckit.rollout.scoring.user_function import UserFunction
from asynckit.user_code import describe

OFFERED = ("response", "ground_truth", "solution_str")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, with sys.path given back afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(folder: Path, code: str, attribute: str = "score") -> UserFunction:
    module = "function_" + folder.name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    return UserFunction(f"{module}:{attribute}", OFFERED)


@pytest.mark.parametrize(
    ("code", "attribute", "message"),
    [
        ("def score(answer, *, style): pass", "score", "it requires answer, style"),
        ("def score(response, /): pass", "score", "it requires response"),
        ("def scores(): pass", "score", "did you mean scores"),
        ("score = 3", "score", "score is of type int, not a function"),
        ("class score: pass", "score", "the class score has neither score nor __call__"),
        ("class A:\n    x = 1", "A.y", "has no 'A.y'"),
        ("def score(:", "score", r"failed: .*SyntaxError"),
        ("1 / 0", "score", r"failed: ZeroDivisionError: division by zero \(.*\.py:1\)"),
        ("raise SystemExit(2)", "score", "failed: SystemExit: 2"),
        ("import not_there_at_all", "score", "failed: ModuleNotFoundError.*not_there_at_all"),
    ],
)
def test_unusable_function_is_refused_when_it_is_loaded(
    folder: Path, code: str, attribute: str, message: str
) -> None:
    """Nothing is generated for a reward that cannot be called."""
    with pytest.raises(InputError, match=message):
        load(folder, code, attribute)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_reward:score", "did you mean my_rewards"),
        ("nowhere.at.all:score", "there is no module 'nowhere.at.all'"),
        ("my_rewards.inner:score", "there is no module 'my_rewards.inner'|failed"),
        ("./my_rewards.py:score", "write my_rewards:score"),
        ("a b:score", "is no module name"),
        ("..x:score", "is no module name"),
    ],
)
def test_unknown_module_gets_the_near_miss(folder: Path, name: str, message: str) -> None:
    """A module is looked for in the working folder, and a path is turned into a module name."""
    (folder / "my_rewards.py").write_text("def score(): pass")
    with pytest.raises(InputError, match=message) as caught:
        UserFunction(name, OFFERED)
    assert caught.value.where == name


def test_methods_and_callables_are_functions(folder: Path) -> None:
    """A bound method or an object with __call__ serves as well as a def."""
    code = "class A:\n    def run(self, response): return response\n    __call__ = run\na = A()"
    for attribute in ("a", "a.run"):
        function = load(folder, code, attribute)
        assert function.call({"response": "x", "ground_truth": None, "solution_str": "x"}) == "x"


def test_import_paths_come_before_the_working_folder(folder: Path) -> None:
    """The folders that a person names win."""
    module = "twice_" + folder.name
    (folder / "sub").mkdir()
    (folder / f"{module}.py").write_text("def score(): return 'here'")
    (folder / "sub" / f"{module}.py").write_text("def score(): return 'sub'")
    assert UserFunction(f"{module}:score", OFFERED, ["sub"]).call({}) == "sub"


def test_nothing_printed_at_import_reaches_stdout(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Stdout is for the command's JSON; commands that a module runs print too."""
    code = "import os, subprocess\nprint('one')\nos.write(1, b'two ')\nsubprocess.run(['echo', 'three'])\n"
    load(folder, f"{code}def score(): pass")
    print("mine")  # noqa: T201
    assert capfd.readouterr().out == "mine\n"


def test_description_of_an_error_is_one_short_line() -> None:
    """Errors go into records and log lines."""
    text = describe(ValueError("a\nb" * 1000 + "\udcff"))
    assert text.startswith("ValueError: a ba b")
    assert len(text) < 600
    assert text.isprintable()

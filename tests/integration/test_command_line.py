"""The command line as a person or a script meets it: fast help, clear errors, documented exit codes."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Run, environment

from asynckit.cli import COMMANDS

HEAVY = {"torch", "transformers", "ray", "zmq", "fastapi", "pyarrow", "numpy"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in COMMANDS),
        ["config", "show", "--help"],
        ["runs", "audit", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help must stay instant: it may not pull in what only the work needs."""
    script = (
        f"import sys\nsys.argv = ['asynckit', *{arguments!r}]\n"
        "from asynckit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not HEAVY & loaded


def test_help_lists_every_command_and_the_exit_codes(asynckit: Run) -> None:
    """A person finds the commands and a script's author the exit codes."""
    text = asynckit("--help").stdout
    assert all(f" {name} " in text for name in COMMANDS)
    assert "130 interrupted" in " ".join(text.split())


def test_the_module_can_be_run_and_says_its_version(asynckit: Run) -> None:
    """``python -m asynckit`` is the same command."""
    assert asynckit("--version").stdout.startswith("asynckit 0.")


def assert_clear_error(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The exit code is ``code``, stderr holds all words, nobody sees a traceback, stdout is clean."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr


def test_usage_errors_end_with_2(asynckit: Run) -> None:
    """Unknown options and commands are the command line's own errors."""
    assert asynckit("rollout", "--no-such-option").returncode == 2
    assert asynckit("no-such-command").returncode == 2
    assert_clear_error(asynckit("config", "show", "engine", "model"), 2, "one section or key")


def test_a_typo_in_a_key_ends_with_3_and_a_suggestion(asynckit: Run, tmp_path: Path) -> None:
    """On the command line, in the environment and in a file, each with its own place."""
    assert_clear_error(asynckit("rollout", "rollout.nn=8"), 3, "rollout.nn", "rollout.n")
    assert_clear_error(
        asynckit("config", "show", ASYNCKIT_ENGINE__DTIPE="float32"), 3, "ASYNCKIT_ENGINE__DTIPE"
    )
    (tmp_path / "conf.yaml").write_text("sampling:\n  temprature: 1\n")
    assert_clear_error(asynckit("rollout", "-c", "conf.yaml"), 3, "conf.yaml:2:3", "temperature")


def test_a_wrong_value_ends_with_3(asynckit: Run) -> None:
    """Wrong types and values out of range are configuration errors, wherever they come from."""
    assert_clear_error(asynckit("rollout", "rollout.n=eight"), 3, "rollout.n", "eight")
    assert_clear_error(asynckit("rollout", "-n", "0"), 3, "-n", "at least 1")
    assert_clear_error(asynckit("rollout", "sampling.temperature=.nan"), 3, "temperature")


def test_inputs_that_can_t_be_used_end_with_4(asynckit: Run, tmp_path: Path, sums: Path) -> None:
    """Before any model is loaded, and with the line that is wrong."""
    assert_clear_error(asynckit("rollout", "--prompts", "missing.jsonl"), 4, "missing.jsonl")
    with sums.open("a") as file:
        file.write('{"prompt": \n')
    assert_clear_error(asynckit("rollout", "--prompts", "sums.jsonl"), 4, "sums.jsonl:11")
    sums.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    assert_clear_error(asynckit("rollout", "-p", "sums.jsonl", "--reward", "nowhere:score"), 4, "nowhere")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_does_not_exist_ends_with_5(asynckit: Run, sums: Path) -> None:
    """Offline or not, in bounded time, with what to do."""
    done = asynckit("rollout", "-p", str(sums), "--model", "./no/such/model", HF_HUB_OFFLINE="1")
    assert_clear_error(done, 5, "no/such/model")


def test_a_model_folder_that_does_not_match_its_weights_ends_with_4(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """A broken copy of a model is an input error, found in the engine and told without its traceback."""
    broken = sums.parent / "broken"
    shutil.copytree(tiny_llama, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    assert_clear_error(
        asynckit("rollout", "-q", "-p", str(sums), "-m", str(broken), "-o", "out"), 4, "broken"
    )
    assert not (sums.parent / "out").exists()


def test_replicas_that_can_t_fit_are_refused_at_once(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """Waiting for CPUs that this machine doesn't have would take the whole start-up time-out."""
    arguments = ("rollout", "-q", "-p", str(sums), "-m", str(tiny_llama))
    impossible = ("ray.address=local", "rollout.cpus_per_replica=4000")
    assert_clear_error(asynckit(*arguments, *impossible), 5, "4000 CPUs")


def test_a_cluster_that_does_not_answer_ends_with_5(asynckit: Run, tiny_llama: Path, sums: Path) -> None:
    """At once, and without leaving a run directory behind."""
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        arguments = ("rollout", "-p", str(sums), "-m", str(tiny_llama), "-o", "out")
        assert_clear_error(asynckit(*arguments, f"ray.address={address}"), 5, address)
    assert not (sums.parent / "out").exists()


def test_a_run_directory_with_something_else_in_it_is_kept(
    asynckit: Run, tiny_llama: Path, sums: Path
) -> None:
    """``--overwrite`` never deletes what is no run of ours."""
    home = sums.parent / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("precious")
    arguments = ("rollout", "-p", str(sums), "--model", str(tiny_llama), "--out", str(home))
    assert_clear_error(asynckit(*arguments), 2, "home")
    assert_clear_error(asynckit(*arguments, "--overwrite"), 2, "home")
    assert (home / "thesis.tex").read_text() == "precious"


def test_config_show_gives_the_winner_and_its_origin(asynckit: Run, tmp_path: Path) -> None:
    """A value set in a file, the environment and on the command line: the command line wins."""
    (tmp_path / "conf.yaml").write_text("rollout:\n  n: 2\nsampling:\n  top_k: 5\n")
    arguments = ("config", "show", "-c", "conf.yaml", "--json")
    shown = json.loads(asynckit(*arguments, "rollout.n=4", ASYNCKIT_ROLLOUT__N="3").stdout)
    assert (shown["rollout"]["n"], shown["sampling"]["top_k"]) == (4, 5)
    shown = json.loads(asynckit(*arguments, ASYNCKIT_ROLLOUT__N="3").stdout)
    assert shown["rollout"]["n"] == 3
    text = asynckit(
        "config", "show", "rollout.n", "-c", "conf.yaml", "--origin", ASYNCKIT_ROLLOUT__N="3"
    ).stdout
    assert "ASYNCKIT_ROLLOUT__N" in text
    assert "conf.yaml:2:6" in text


def test_errors_go_to_stderr_without_colour_codes(asynckit: Run) -> None:
    """Scripts read stdout; logs must not be full of escape codes."""
    done = subprocess.run(
        [sys.executable, "-m", "asynckit", "config", "show", "nothing"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert asynckit("config", "show", "nothing").returncode == 3

"""Every wrong setting is refused with what is wrong, the exact place, and a mend."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynckit.config.load import Flag, load_config
from asynckit.config.schema import Root
from asynckit.errors import ConfigError


def refused(
    *overrides: str, text: str | bytes | None = None, folder: Path | None = None, **variables: str
) -> ConfigError:
    """The error of loading these settings, with the folder cut from its place."""
    files = []
    if text is not None and folder is not None:
        files = [folder / "conf.yaml"]
        files[0].write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(files=files, overrides=overrides, environ=variables)
    error = caught.value
    if folder is not None:
        error.where = error.where.replace(f"{folder}/", "")
        error.mend = error.mend.replace(f"{folder}/", "")
    return error


@pytest.mark.parametrize(
    ("word", "message", "mend"),
    [
        ("rollout.n=eight", "rollout.n must be an integer, not 'eight'", "samples per prompt"),
        ("rollout.n=true", "rollout.n must be an integer, not true", "samples per prompt"),
        ("rollout.n=8.0", "rollout.n must be an integer, not 8.0", "samples per prompt"),
        ("rollout.n=", "rollout.n must be an integer, not null", "samples per prompt"),
        ("rollout.n=[1]", "rollout.n must be an integer, not [1]", "samples per prompt"),
        ("rollout.n={a: 1}", 'rollout.n must be an integer, not {"a": 1}', "samples per prompt"),
        ("rollout.n=010", "010 would be read as an octal number", "write 10"),
        ("sampling.ignore_eos=1", "sampling.ignore_eos must be true or false, not 1", "end-of-text"),
        ("sampling.temperature=hot", "sampling.temperature must be a number, not 'hot'", "greedy"),
        ("sampling.temperature=true", "sampling.temperature must be a number, not true", "greedy"),
        ("engine.threads=many", "engine.threads must be an integer or null, not 'many'", "CPU threads"),
        ("model.name=[a]", 'model.name must be a string, not ["a"]', "quotes"),
        ("model.name=null", "model.name must be a string, not null", "built-in name"),
        ("sampling.stop=a", "sampling.stop must be a list of strings, not 'a'", "end the response"),
        ("sampling.stop=[a, 1]", "sampling.stop[1] must be a string, not 1", "end the response"),
        (
            "sampling.stop_token_ids=[1, x]",
            "sampling.stop_token_ids[1] must be an integer, not 'x'",
            "tokens",
        ),
        ("prompts.task=easy", "prompts.task must be a mapping of names to strings, not 'easy'", "task"),
        ("prompts.task.a={b: 1}", 'prompts.task.a must be a string, not {"b": 1}', "quotes"),
        ("prompts.task.a=null", "prompts.task.a must be a string, not null", "task"),
        ("rollout=8", "rollout is a section, not a single value", "rollout.n, rollout.out"),
        ("rollout=", "rollout is a section, not a single value", "rollout.n, rollout.out"),
        ("rollout.n.m=8", "rollout.n is a single value and has no key 'm'", "samples per prompt"),
        ("rollout.m=8", "unknown key rollout.m", "did you mean rollout.n?"),
        ("rollot.n=8", "unknown key rollot.n", "did you mean rollout.n?"),
        ("rollout.temperature=1", "unknown key rollout.temperature", "did you mean sampling.temperature?"),
        ("rollout.temprature=1", "unknown key rollout.temprature", "did you mean sampling.temperature?"),
        ("temperature=1", "unknown section temperature", "did you mean sampling.temperature?"),
        ("rolout=1", "unknown section rolout", "did you mean rollout?"),
        ("ray.zzz=1", "unknown key ray.zzz", "ray has address, num_cpus"),
        ("zzz.qqq=1", "unknown key zzz.qqq", "the configuration has model, engine"),
        ("rollout..n=8", "unknown key rollout..n", "did you mean rollout.n?"),
        ("prompts.task.=8", "unknown key prompts.task.", "did you mean prompts.task"),
        ("rollout.n", "a setting is written key=value", "rollout.n=8"),
        ("=8", "a setting is written key=value", "rollout.n=8"),
        ("", "a setting is written key=value", "rollout.n=8"),
        ("sampling.stop=[a", "not valid YAML", "brackets"),
        ("sampling.stop=!!set {a}", "the YAML tag tag:yaml.org,2002:set is not supported", ""),
        ("rollout.n=!!int x", "the YAML tag tag:yaml.org,2002:int is not supported", ""),
        ("prompts.task={a: 1, a: 2}", "a is given twice", "keep one"),
        ("rollout.n=0", "rollout.n must be at least 1, not 0", "samples per prompt"),
        ("rollout.n=1025", "rollout.n must be at most 1024, not 1025", "samples per prompt"),
        ("sampling.top_p=0", "sampling.top_p must be greater than 0.0, not 0.0", "probability"),
        ("sampling.temperature=.nan", "sampling.temperature must be a finite number, not nan", "greedy"),
        (
            "engine.dtype=int4",
            "engine.dtype must be one of auto, float32, bfloat16, float16, not 'int4'",
            "precision",
        ),
        ("rollout.n=${rollout.m}", "Interpolation key 'rollout.m' not found", "did you mean ${rollout.n}?"),
        ("rollout.n=${zzzzz}", "Interpolation key 'zzzzz' not found", "whole key"),
        ("rollout.n=${oc.env:NO_SUCH_NAME}", "Environment variable 'NO_SUCH_NAME' not found", "DEFAULT"),
        ("rollout.n=${nope:1}", "Unsupported interpolation type nope", "${oc.env:NAME}"),
        ("rollout.n=${rollout.n}", "Recursive interpolation detected", "${section.key}"),
        (
            "rollout.n=${model.name}",
            "must be an integer, not 'smollm2-135m-instruct' (from '${model.name}')",
            "samples",
        ),
        ("model.name=${rollout.n}", "model.name must be a string, not 4 (from '${rollout.n}')", "quotes"),
        (
            "rollout.n=${sampling.seed}",
            "rollout.n must be at least 1, not 0 (from '${sampling.seed}')",
            "samples",
        ),
        ("model.name=${", "no viable alternative at input '${'", ""),
        ("sampling.stop=['${']", "no viable alternative at input '${'", ""),
        ("rollout.n=???", "rollout.n has no value (???)", "rollout.n=VALUE"),
        ("rollout.out=\udcff", "rollout.out must be a string or null, not '\\udcff'", "run directory"),
        ("rollout.n=\udcff", "not valid YAML", ""),
        (f"sampling.stop={'[' * 50}{']' * 50}", "the YAML is nested too deeply", ""),
        (f"sampling.stop={'[' * 5000}{']' * 5000}", "the YAML is nested too deeply", ""),
        ("sampling.stop=&a [*a]", "YAML recursive aliases are not supported", ""),
        ("sampling.temperature=" + "9" * 400, "sampling.temperature must be a number, not 9999", "greedy"),
    ],
)
def test_a_wrong_argument_is_named(word: str, message: str, mend: str) -> None:
    """Type, range, spelling, syntax, interpolation: the error has the argument, the problem and the mend."""
    error = refused(word)
    assert message in error.message
    assert error.where == f"argument {word!r}"
    assert mend in error.mend


@pytest.mark.parametrize(
    ("text", "where", "message", "mend"),
    [
        ("rollout:\n  m: 8\n", "conf.yaml:2:3", "unknown key rollout.m", "did you mean rollout.n?"),
        ("\nrolout:\n  n: 8\n", "conf.yaml:2:1", "unknown section rolout", "did you mean rollout?"),
        ("rollout.n: 8\n", "conf.yaml:1:1", "unknown section rollout.n", "nest it: n goes under rollout"),
        ("1: 8\n", "conf.yaml:1:1", "unknown section 1", "the configuration has model"),
        ("rollout:\n  n: eight\n", "conf.yaml:2:6", "rollout.n must be an integer, not 'eight'", "samples"),
        ("rollout:\n  n:\n", "conf.yaml:2:3", "rollout.n must be an integer, not null", "samples"),
        ("rollout:\n  n: 0\n", "conf.yaml:2:6", "rollout.n must be at least 1, not 0", "samples"),
        ("rollout: {n: 2,\n  n: 3}\n", "conf.yaml:2:3", "n is given twice", "the first is at conf.yaml:1:11"),
        ("rollout: 8\n", "conf.yaml:1:10", "rollout is a section, not a single value", "rollout.n"),
        ("rollout: [n]\n", "conf.yaml:1:10", "rollout is a section, not a single value", "rollout.n"),
        (
            "model:\n  revision: 1234567\n",
            "conf.yaml:2:13",
            "model.revision must be a string or null",
            "quotes",
        ),
        (
            "sampling:\n  stop: a\n",
            "conf.yaml:2:9",
            "sampling.stop must be a list of strings, not 'a'",
            "end",
        ),
        ("rollout:\n\tn: 8\n", "conf.yaml:2:1", "not valid YAML", "indentation"),
        ("rollout: {n: 8\n", "conf.yaml:2:1", "not valid YAML", "brackets"),
        ("rollout:\n  n: 8\n\x00", "conf.yaml:3:1", "not valid YAML", ""),
        ("rollout: {n: 8}\n---\nrollout: {n: 8}\n", "conf.yaml:2:1", "expected a single document", ""),
        ("- rollout\n", "conf.yaml:1:1", "holds sections with keys", "begin with a section"),
        ("rollout\n", "conf.yaml:1:1", "holds sections with keys", "begin with a section"),
        ("rollout: {n: 012}\n", "conf.yaml:1:14", "012 would be read as an octal number", "write 12"),
        ("? [a]\n: 8\n", "conf.yaml:1:3", "a key must be a name", ""),
        ("rollout: {null: 8}\n", "conf.yaml:1:10", "Incompatible key type 'NoneType'", ""),
        ("rollout: &a {n: *a}\n", "conf.yaml:1:10", "recursive aliases", ""),
        ("rollout: {<<: 8}\n", "conf.yaml:1:15", "expected a mapping", ""),
        ("rollout:\n  out: ${\n", "conf.yaml:2:8", "no viable alternative", ""),
        ("sampling:\n  stop:\n    - ${\n", "conf.yaml:3:5", "no viable alternative", ""),
        (
            "rollout:\n  n: ${rollout.m}\n",
            "conf.yaml:2:6",
            "Interpolation key 'rollout.m' not found",
            "${rollout.n}",
        ),
        (
            "rollout: {n: '${prompts.size}'}\nprompts: {size: '${rollout.n}'}\n",
            "conf.yaml:2:17",
            "Recursive",
            "",
        ),
        ("rollout: {n: '???'}\n", "conf.yaml:1:14", "rollout.n has no value", "rollout.n=VALUE"),
        (b"rollout:\n  out: \xff\n", "conf.yaml:2", "the file is not UTF-8 text", "UTF-8"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_column(
    tmp_path: Path, text: str | bytes, where: str, message: str, mend: str
) -> None:
    """The place in the file is where the person has to look: the value, or the key if that is wrong."""
    error = refused(text=text, folder=tmp_path)
    assert message in error.message
    assert error.where == where
    assert mend in error.mend


def test_a_wrong_value_is_refused_though_another_layer_overrides_it(tmp_path: Path) -> None:
    """A file with a wrong type is wrong, whatever the command line says."""
    error = refused("rollout.n=8", text="rollout: {n: eight}\n", folder=tmp_path)
    assert error.where == "conf.yaml:1:14"


def test_bounds_name_the_layer_that_won(tmp_path: Path) -> None:
    """A value out of range is the winner's fault; one that lost is not looked at."""
    error = refused("rollout.n=0", text="rollout: {n: 8}\n", folder=tmp_path)
    assert error.where == "argument 'rollout.n=0'"
    file = tmp_path / "conf.yaml"
    file.write_text("rollout: {n: 0}\n")
    assert load_config(files=[file], overrides=["rollout.n=8"], environ={}).root.rollout.n == 8


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ASYNCKIT_ROLLOUT__N", "eight", "rollout.n must be an integer, not 'eight'"),
        ("ASYNCKIT_ROLLOUT__M", "8", "unknown key rollout.m"),
        ("ASYNCKIT__ROLLOUT", "8", "unknown section _rollout"),
        ("ASYNCKIT_ROLLOUT__", "8", "unknown key rollout."),
        ("ASYNCKIT_ROLLOUT__N", "[", "not valid YAML"),
        ("ASYNCKIT_ROLLOUT__N", "0", "rollout.n must be at least 1, not 0"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str) -> None:
    """The place of a wrong environment variable is its name."""
    with pytest.raises(ConfigError) as caught:
        load_config(environ={name: value})
    error = caught.value
    assert message in error.message
    assert error.where == name


def test_two_variables_for_one_key_are_refused() -> None:
    """Names are case-insensitive, so neither of two spellings could be said to win."""
    error = refused(ASYNCKIT_ROLLOUT__N="1", asynckit_rollout__n="2")
    assert error.message == "ASYNCKIT_ROLLOUT__N sets rollout.n too"
    assert error.where == "asynckit_rollout__n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (Flag("rollout.n", 0, "-n"), "rollout.n must be at least 1, not 0"),
        (Flag("rollout.n", "8", "-n"), "rollout.n must be an integer, not '8'"),
        (Flag("rollout.n", object(), "-n"), "not a supported primitive type"),
        (Flag("rollout.out", "${", "-n"), "no viable alternative"),
    ],
)
def test_a_wrong_flag_is_named(flag: Flag, message: str) -> None:
    """The place of a wrong flag is the flag as it is typed."""
    with pytest.raises(ConfigError) as caught:
        load_config(flags=[flag], environ={})
    assert message in caught.value.message
    assert caught.value.where == "-n"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, or a folder in its place, says so."""
    for path, message in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=message) as caught:
            load_config(files=[path], environ={})
        assert caught.value.where == str(path)


@dataclass(frozen=True)
class Api:
    """A section with a secret."""

    key: str | None = field(default=None, metadata={"secret": True})
    port: int = 0


@dataclass(frozen=True)
class WithSecret:
    """A schema with a secret."""

    api: Api = field(default_factory=Api)


@pytest.mark.parametrize("word", ["api.key=[hunter2]", "api.key=hunter2${", "api.key='hunter2"])
def test_errors_never_show_a_secret(word: str) -> None:
    """Neither the place nor the message of an error may print what is secret."""
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[word], environ={}, schema=WithSecret)
    assert "hunter2" not in str(caught.value)
    assert caught.value.where.startswith("argument 'api.key=***")


YAML_LIKE = st.lists(
    st.sampled_from(
        ["rollout", "n", ":", " ", "\n", "  ", "8", "{", "}", "[", "]", "!!int", "&a", "*a", "<<", "${", "'"]
    )
    | st.sampled_from(
        [".nan", "???", "- ", ",", "|", "#", "\\", "null", "? ", "\t", "~", "%", "=", '"', "\x85"]
    ),
    max_size=12,
).map("".join)


@settings(deadline=None)
@given(YAML_LIKE | st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_loaded_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No text, in a file, an argument, a variable or a flag, ends in anything but a result or our error."""
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8")
    given_ways: list[dict[str, Any]] = [
        {"files": [file]},
        {"overrides": [text]},
        {"overrides": [f"sampling.stop={text}"]},
        {"overrides": [f"prompts.{text}=1"]},
        {"environ": {"ASYNCKIT_RAY__NUM_CPUS": text}},
        {"flags": [Flag("model.name", text, "--model")]},
    ]
    for given_way in given_ways:
        with suppress(ConfigError):
            assert isinstance(load_config(**{"environ": {}, **given_way}).root, Root)

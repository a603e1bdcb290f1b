"""What the documentation says a person can type, click or run is true."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from asynckit.cli import app
from asynckit.commands import runs, tokens
from asynckit.config.load import load_config
from asynckit.config.schema import Root
from asynckit.errors import AsynckitError, ConfigError
from asynckit.rollout.afterwards.audit import CLAIMS
from asynckit.rollout.afterwards.export import TARGETS
from asynckit.rollout.afterwards.run_view import SORTS
from asynckit.rollout.record import STATUSES, EngineInfo, Timing, Trajectory
from asynckit.rollout.sinks import TrajectorySink
from asynckit.serve.api.keys import ADMIN_PATHS
from asynckit.serve.api.page_files import PAGE_PATHS
from asynckit.serve.api.schemas.sampling import SamplingFields
from asynckit.serve.metrics import ROUTES, Metrics
from asynckit.tokenization.afterwards.verifying import CLAIMS as TOKEN_CHECKS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROLLOUT = (ROOT / "docs" / "rollout.md").read_text(encoding="utf-8")
SERVE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
BENCH = (ROOT / "docs" / "bench-cuda.md").read_text(encoding="utf-8")
TOKENIZE = (ROOT / "docs" / "tokenize.md").read_text(encoding="utf-8")
SERVE_API = (ROOT / "docs" / "serve-api.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHELL_ENDS_A_COMMAND = {"&&", "||", "|", ";", ">", ">>", "<", "&"}


@dataclass(frozen=True)
class Command:
    """A command line as a page shows it, and the output printed below it."""

    line: str
    output: str

    @property
    def words(self) -> list[str]:
        """The shell's words, comments, redirections and what follows them aside."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        end = next((i for i, word in enumerate(words) if word in SHELL_ENDS_A_COMMAND), len(words))
        return words[:end]

    @property
    def environment(self) -> dict[str, str]:
        """The variables set before the command."""
        before = self.words[: self.words.index("asynckit")]
        return dict(word.split("=", 1) for word in before)

    @property
    def arguments(self) -> list[str]:
        """What follows the program's name."""
        return self.words[self.words.index("asynckit") + 1 :]


def text_of(page: Path) -> str:
    """The page's text."""
    return page.read_text(encoding="utf-8")


def commands_in(text: str) -> Iterator[Command]:
    """Every ``asynckit ...`` line in the page's blocks, and every inline one."""
    for language, block in FENCE.findall(text):
        if language in {"", "sh", "console"}:
            lines = block.replace("\\\n", " ").splitlines()
            for number, line in enumerate(lines):
                if re.match(r"(\$ )?([A-Z_]+=\S+ )*asynckit ", line):
                    yield Command(line.removeprefix("$ "), "\n".join(lines[number + 1 :]))
    for line in re.findall(r"(?<!`)`(asynckit [^`\n]+)`", FENCE.sub("", text)):
        yield Command(line, "")


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters that the command line gives to the command, without running it."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    name: str | None = "asynckit"
    rest = list(arguments)
    while True:
        context = command.make_context(name, rest, parent=context)
        if not isinstance(command, TyperGroup):
            return dict(context.params)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def problem_with(settings: list[str], environment: dict[str, str]) -> str:
    """What the loader says against the settings; empty when they load."""
    try:
        load_config(overrides=settings, environ=environment)
    except ConfigError as error:
        return error.message
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_is_one_that_works(page: Path) -> None:
    """Options exist, settings load, and an error that is shown for a setting is the one that is raised."""
    for command in commands_in(text_of(page)):
        try:
            params = parsed(command.arguments)
        except typer.Exit as end:  # --help and --version
            assert end.exit_code == 0  # noqa: PT017 - raised only where the command line ends by itself
            continue
        words = [*(params.get("overrides") or ()), *(params.get("words") or ()), *(params["settings"] or ())]
        settings = [word for word in words if "=" in word]
        problem = problem_with(settings, command.environment)
        assert problem in command.output, command.line
        assert bool(problem) == command.output.startswith("error: argument"), command.line


def test_the_checks_find_what_is_wrong() -> None:
    """The reader of pages sees blocks, comments, prompts, variables, redirections and inline code."""
    text = (
        "```sh\nasynckit rollout -n 8   # eight\n```\nand `asynckit config show > conf.yaml`\n"
        "```console\n$ ASYNCKIT_ROLLOUT__N=5 asynckit config show rollout.n\nrollout.n: 5\n```\n"
    )
    first, second, third = commands_in(text)
    assert first.arguments == ["rollout", "-n", "8"]
    assert second.environment == {"ASYNCKIT_ROLLOUT__N": "5"}
    assert second.output == "rollout.n: 5"
    assert third.arguments == ["config", "show"]
    assert parsed(first.arguments)["samples"] == 8
    with pytest.raises(Exception, match="no-such-option"):
        parsed(["rollout", "--no-such-option"])


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """The file exists, and so does the heading."""
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def reading_snippets() -> list[tuple[Path, str]]:
    """The Python blocks that read the records of a run."""
    found = [
        (page, code)
        for page in PAGES
        for language, code in FENCE.findall(text_of(page))
        if language == "python"
    ]
    return [(page, code) for page, code in found if "read_trajectories" in code]


@pytest.mark.parametrize(("page", "code"), reading_snippets(), ids=lambda part: getattr(part, "stem", ""))
def test_the_snippets_that_read_records_run(
    page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are pasted by people who have just made their first run."""
    monkeypatch.chdir(tmp_path)
    folder = Path(re.findall(r'"(runs/\w+/trajectories)"', code)[0])
    folder.mkdir(parents=True)
    sink = TrajectorySink(folder, format="parquet", part_samples=1, part_seconds=1.0)
    sink.append([a_trajectory()])
    exec(compile(code, page.name, "exec"), {})  # noqa: S102 - our own documentation
    assert "0.5" in capsys.readouterr().out


def a_trajectory() -> Trajectory:
    """The smallest record with a response and a reward."""
    return Trajectory(
        uid="u",
        group_id="g",
        sample_index=0,
        status="completed",
        messages=[{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2"}],
        data_source="sums",
        engine=EngineInfo("torch", "tiny", "digest"),
        prompt_ids=[1],
        response_ids=[2],
        response_mask=[1],
        logprobs=[-0.5],
        version_spans=[(0, 1, 0)],
        min_version=0,
        max_version=0,
        reward=0.5,
    )


@pytest.mark.parametrize(
    ("name", "page"),
    [("rollout", ROLLOUT), ("serve", SERVE), ("tokenize", TOKENIZE), ("bench-cuda", BENCH)],
    ids=["rollout", "serve", "tokenize", "bench-cuda"],
)
def test_the_page_of_a_command_has_every_flag(name: str, page: str) -> None:
    """Nobody has to read the code to find an option."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("asynckit", [name])
    _, found, _ = command.resolve_command(context, [name])
    params = [part for part in found.params if "--help" not in part.opts]
    options = [text for part in params for text in (*part.opts, *part.secondary_opts) if text[0] == "-"]
    assert len(options) >= 10
    assert [option for option in options if f"`{option}`" not in page] == []


def test_the_runs_page_has_every_flag_check_and_target() -> None:
    """What can be asked of a run is described, and so is what an audit says."""
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(runs.app)
    params = [part for each in group.commands.values() for part in each.params]
    flags = {option for part in params for option in part.opts if option.startswith("--")}
    assert len(flags) >= 12
    assert [name for name in (*flags, *CLAIMS, *TARGETS, *SORTS) if f"`{name}`" not in page] == []


def test_the_tokens_page_has_every_flag_and_check() -> None:
    """The same for what can be asked of tokens."""
    page = (ROOT / "docs" / "tokens.md").read_text(encoding="utf-8")
    group: Any = typer.main.get_command(tokens.app)
    params = [part for each in group.commands.values() for part in each.params]
    flags = {option for part in params for option in part.opts if option.startswith("-")}
    assert len(flags) >= 12
    assert [name for name in (*flags, *TOKEN_CHECKS) if f"`{name}`" not in page] == []


def test_the_rollout_page_has_every_field_and_status_of_a_record() -> None:
    """What is in the files is described."""
    names = [part.name for kind in (Trajectory, EngineInfo, Timing) for part in fields(kind)]
    assert [name for name in (*names, *STATUSES) if f"`{name}`" not in ROLLOUT] == []


def test_the_rollout_page_has_every_setting_of_a_run_with_its_default() -> None:
    """A default that changes has to change on the page."""
    shown = dict(re.findall(r"^\| `((?:rollout|reward|ray)\.\w+)` \| ([^|]+) \|", ROLLOUT, re.MULTILINE))
    for section in ("rollout", "reward", "ray"):
        values = getattr(Root(), section)
        for part in fields(values):
            text, default = shown[f"{section}.{part.name}"].strip("`"), getattr(values, part.name)
            assert default is None or text == as_on_a_page(default)


def test_the_prompts_page_has_every_setting_with_its_default() -> None:
    """The page is where people look for what prompts.* can do."""
    page = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `prompts\.(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for part in fields(Root().prompts):
        text, default = shown[part.name].strip("`"), getattr(Root().prompts, part.name)
        assert default in (None, {}) or text == as_on_a_page(default)


def as_on_a_page(default: Any) -> str:
    """A default as a table shows it."""
    if isinstance(default, bool):
        return str(default).lower()
    if default == ():
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_engines_page_has_every_setting_of_a_server_with_its_default() -> None:
    """The same for the settings that only one engine has."""
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `openai\.(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for part in fields(Root().openai):
        default = getattr(Root().openai, part.name)
        assert default is None or shown[part.name] == f"{default:g}", part.name
    assert shown.keys() == {part.name for part in fields(Root().openai)}


def error_codes(kind: type[AsynckitError]) -> set[int]:
    """The exit codes of an error and of everything derived from it."""
    return {kind.exit_code}.union(*(error_codes(child) for child in kind.__subclasses__()))


def test_the_rollout_page_has_every_exit_code_it_can_end_with() -> None:
    """Scripts are written from this table."""
    table = ROLLOUT.partition("## Exit codes")[2].partition("##")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    comparisons_only = {6}
    assert listed == (error_codes(AsynckitError) | {0}) - comparisons_only


def test_the_asynchrony_page_has_every_setting_with_its_default() -> None:
    """The page is where people look for verl's names."""
    page = (ROOT / "docs" / "asynchrony.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `((?:async_training|learner)\.\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    for section in ("async_training", "learner"):
        for part in fields(getattr(Root(), section)):
            text, default = shown[f"{section}.{part.name}"], getattr(getattr(Root(), section), part.name)
            assert default is None or text.strip("`") == as_on_a_page(default)


def test_the_bench_page_has_every_setting_with_its_default() -> None:
    """And none that is not there any more."""
    shown = dict(re.findall(r"^\| `bench\.(\w+)` \| ([^|]+) \|", BENCH, re.MULTILINE))
    values = Root().bench
    assert shown == {part.name: shown[part.name] for part in fields(values)}
    for part in fields(values):
        assert shown[part.name].strip("`") == as_on_a_page(getattr(values, part.name)), part.name


def test_the_serve_page_has_every_setting_with_its_default() -> None:
    """And none that is not there any more."""
    shown = dict(re.findall(r"^\| `serve\.(\w+)` \| ([^|]+) \|", SERVE, re.MULTILINE))
    values = Root().serve
    assert shown.keys() == {part.name for part in fields(values)}
    for part in fields(values):
        default = getattr(values, part.name)
        assert default is None or shown[part.name].strip("`") == as_on_a_page(default), part.name


def test_the_tokenize_page_has_every_setting() -> None:
    """And its flags."""
    assert [
        part.name for part in fields(Root().tokenization) if f"`tokenization.{part.name}`" not in TOKENIZE
    ] == []


def test_the_serve_page_has_every_exit_code() -> None:
    """Service managers are set up from this table."""
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", SERVE, re.MULTILINE)} - {400, 401, 429}
    comparisons_only = {6}
    assert listed >= (error_codes(AsynckitError) | {0}) - comparisons_only


def test_the_api_page_has_every_route_with_its_key() -> None:
    """Routes that want the admin key say so."""
    rows = re.findall(r"^\| (`(?:GET|POST) .+?) \| (API|admin|none) \|", SERVE_API, re.MULTILINE)
    shown = {path: key for row, key in rows for path in re.findall(r"`(?:GET|POST) ([^`]+)`", row)}
    assert shown.keys() == (ROUTES - PAGE_PATHS) | {"/"}
    assert {path for path, key in shown.items() if key == "admin"} == ADMIN_PATHS


def test_the_api_page_has_every_error_code_and_ignored_field() -> None:
    """Programs branch on codes, and people look up what their field does."""
    source = "\n".join(text_of(path) for path in (ROOT / "src" / "asynckit" / "serve").rglob("*.py"))
    codes = set(re.findall(r"\bcode=\"(\w+)\"", source)) - {"unavailable"}  # which nobody uses as it is
    assert len(codes) >= 20
    fields = SamplingFields.model_fields.items()
    ignored = [name for name, field in fields if field.description == "accepted and ignored"]
    assert len(ignored) >= 8
    assert [name for name in (*sorted(codes), *ignored) if f"`{name}`" not in SERVE_API] == []


def test_the_operations_page_has_every_metric() -> None:
    """Dashboards are built from this table."""
    page = text_of(ROOT / "docs" / "serve-operations.md")
    shown = Metrics("model").render()
    names = re.findall(r"^# TYPE (asynckit:\w+) (\w+)$", shown, re.MULTILINE)
    assert len(names) >= 20
    assert [name for name, _ in names if not re.search(rf"`{name}[`{{]", page)] == []

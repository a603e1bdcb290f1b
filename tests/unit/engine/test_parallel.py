"""Several processes that hold one model together: the same tokens as one process, or an error, in time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rank
import torch
import transformers
from peft import LoraConfig, get_peft_model
from rank import Act, Heard, load, play
from tiny_models import SMALL, save_tokenizer

from asynckit.engine.parallel import Parallel
from asynckit.errors import ConfigError, DependencyError

# PEFT's own use of an attribute that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

BIASED = {**SMALL, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, tied, biased": ("LlamaConfig", BIASED),
    "qwen2": ("Qwen2Config", SMALL),
    "qwen3": ("Qwen3Config", SMALL),
    "mistral, sliding": ("MistralConfig", {**SMALL, "sliding_window": 16}),
    "gemma3": ("Gemma3TextConfig", {**SMALL, "sliding_window": 16}),
}
NINE = ("LlamaConfig", {**SMALL, "hidden_size": 144, "num_attention_heads": 9, "num_key_value_heads": 3})
GREEDY = {"temperature": 0.0, "max_tokens": 24}
SAMPLED = {"temperature": 1.0, "max_tokens": 16, "seed": 3, "top_p": 0.9, "repetition_penalty": 1.1}
SCRIPT: list[Act] = [
    ("add", "greedy", list(range(4, 40)), GREEDY, 1, None),
    ("add", "sampled", list(range(8, 30)), SAMPLED, 3, None),
    ("steps", 4),
    ("add", "long", [4 + index % 200 for index in range(150)], GREEDY, 1, None),
    ("add", "regex", [7, 8], {**SAMPLED, "regex": "[a-z]{5,9}"}, 1, None),
    ("add", "dropped", [9, 10, 11], GREEDY, 1, None),
    ("steps", 3),
    ("abort", "dropped"),
]
SETTINGS = {"max_step_tokens": 50, "block_size": 16, "prefill_chunk": 20}


def build(folder: Path, family: tuple[str, dict[str, Any]], seed: int = 0) -> Path:
    """A random model with random biases, and its tokenizer."""
    kind, values = family
    config = getattr(transformers, kind)(vocab_size=save_tokenizer(folder), **values)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def job(folder: Path, script: Sequence[Act], *, meeting: Path, **place: Any) -> dict[str, Any]:
    """What the ranks of one model are told, but for their numbers."""
    return {
        "folder": str(folder),
        "settings": SETTINGS,
        "script": script,
        "parallel": {
            "rendezvous": f"file://{meeting}",
            "size": 2,
            "timeout": 30.0,
            "load_timeout": 90.0,
            **place,
        },
    }


@contextmanager
def started(jobs: Sequence[Sequence[dict[str, Any]]]) -> Iterator[list["subprocess.Popen[str]"]]:
    """A process for each rank, which has been told its jobs; none survives the test."""
    processes = []
    try:
        for number, own in enumerate(jobs):
            process = subprocess.Popen(
                [sys.executable, rank.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            processes.append(process)
            assert process.stdin
            told = [{**each, "parallel": {**each["parallel"], "rank": number}} for each in own]
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def answers(process: "subprocess.Popen[str]") -> list[Any]:
    """What it printed for each job."""
    out, _ = process.communicate(timeout=150)
    return [json.loads(line) for line in out.splitlines()]


def heard_together(jobs: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """What each rank heard of each job."""
    with started([jobs] * jobs[0]["parallel"]["size"]) as processes:
        return [answers(process) for process in processes]


def assert_same(found: Any, expected: Heard) -> None:
    """The same tokens and ends, and the same logprobs but for rounding."""
    assert isinstance(found, list), found
    tokens = [(*event[:3], event[4]) for event in expected]
    assert [(*event[:3], event[4]) for event in found] == tokens
    assert [event[3] for event in found] == pytest.approx([event[3] for event in expected], abs=1e-3)


def with_adapters(root: Path) -> tuple[Path, list[Act]]:
    """A model, and a script: an adapter on every layer, one on a few, embeddings, then other weights."""
    folder = build(root / "old", ("LlamaConfig", BIASED))
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    other = build(root / "new", ("LlamaConfig", BIASED), seed=1)
    targets: dict[str, str | list[str]] = {"all": "all-linear", "some": ["o_proj", "up_proj"]}
    script: list[Act] = []
    for name, target in targets.items():
        base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        options = LoraConfig(r=6, target_modules=target, init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(base, options).save_pretrained(str(root / name))
        script.append(("adapter", name, str(root / name)))
    script += [("add", f"to {name}", [5, 6, 7, 8], GREEDY, 2, name) for name in (*targets, None)]
    return folder, [
        *script,
        ("embed", [[5, 6, 7], [9] * 70]),
        ("steps", 5),
        ("weights", 1, str(other), "keep_kv"),
    ]


def test_two_processes_generate_what_one_does(tmp_path: Path) -> None:
    """Token for token: greedy and sampled, constrained, aborted, in chunks, with adapters and new weights."""
    plays = [(build(tmp_path / name, family), SCRIPT) for name, family in FAMILIES.items()]
    plays.append(with_adapters(tmp_path))
    for_rank = heard_together([job(*each, meeting=each[0] / "meeting") for each in plays])
    for index, (folder, script) in enumerate(plays):
        expected = play(load(str(folder), SETTINGS), script)
        assert len(expected) > 60
        for answered in for_rank:
            assert_same(answered[index], expected)


def test_three_processes_share_nine_heads(tmp_path: Path) -> None:
    """As of SmolLM2, whose 9 heads use 3 key/value heads."""
    folder = build(tmp_path / "nine", NINE)
    expected = play(load(str(folder), SETTINGS), SCRIPT)
    for (answered,) in heard_together([job(folder, SCRIPT, meeting=tmp_path / "meeting", size=3)]):
        assert_same(answered, expected)


def test_a_model_that_can_t_be_shared_out_is_refused_at_once(tmp_path: Path, tiny_llama: Path) -> None:
    """Before any weight is read or anybody waited for, with the numbers that would do."""
    nine = build(tmp_path / "nine", NINE)
    with pytest.raises(ConfigError, match=r"num_attention_heads is 9.*parallelism of 1 or 3"):
        load(str(nine), {}, Parallel(0, 2, f"file://{tmp_path}/meeting"))
    with pytest.raises(ConfigError, match=r"num_key_value_heads is 2.*1 or 2"):
        load(str(tiny_llama), {}, Parallel(0, 4, f"file://{tmp_path}/meeting"))
    compiled = {"compile": True, "optimize": False}
    with pytest.raises(ConfigError, match="compile"):
        load(str(tiny_llama), compiled, Parallel(0, 2, f"file://{tmp_path}/meeting"))
    assert not (tmp_path / "meeting").exists()


def test_a_place_that_is_none_is_refused(tiny_llama: Path) -> None:
    """Ranks count from 0, and the rendezvous is of a kind that exists."""
    with pytest.raises(ConfigError, match="rank 2 is not among 2"):
        load(str(tiny_llama), {}, Parallel(2, 2, "file:///tmp/never"))
    with pytest.raises(ConfigError, match="can't meet"):
        load(str(tiny_llama), {}, Parallel(0, 2, "env://"))


def test_who_waits_alone_gives_up(tiny_llama: Path, tmp_path: Path) -> None:
    """The other ranks never come."""
    with pytest.raises(DependencyError, match="does not reach the other ranks"):
        load(str(tiny_llama), {}, Parallel(0, 2, f"file://{tmp_path}/meeting", load_timeout=0.5))


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_ends_the_others_steps(
    fate: signal.Signals, tiny_llama: Path, tmp_path: Path
) -> None:
    """With an error from step(), at once or after the time-out."""
    script = [*SCRIPT, ("say", "half way")]
    told = job(tiny_llama, script, meeting=tmp_path / "meeting", timeout=2.0)
    with started([[told], [told]]) as (first, second):
        for process in (first, second):
            assert process.stdout
            assert json.loads(process.stdout.readline()) == "half way"
        os.kill(second.pid, fate)
        out, _ = first.communicate("\n", timeout=60)
    answer = json.loads(out)
    assert answer["error"] == "WorkFailed"
    assert "in vain" in answer["message"]


def test_ranks_that_no_longer_do_the_same_stop(tiny_llama: Path, tmp_path: Path) -> None:
    """A request that only one of them has must not hang them, nor mix up who gets which token."""
    jobs = [
        [job(tiny_llama, SCRIPT, meeting=tmp_path / "one"), job(tiny_llama, [], meeting=tmp_path / "two")],
        [
            job(tiny_llama, SCRIPT[1:], meeting=tmp_path / "one"),
            job(tiny_llama, [], meeting=tmp_path / "two"),
        ],
    ]
    jobs[1][1]["settings"] = {**SETTINGS, "max_running": 3}
    with started(jobs) as processes:
        for process in processes:
            first, second = answers(process)
            assert "differ in their requests" in first["message"]
            assert "differ in their settings" in second["message"]


def test_one_process_may_hold_the_whole_model(tiny_llama: Path, tmp_path: Path) -> None:
    """A size of 1 is nothing special, but GPT-2, which keeps queries, keys and values in one, is refused."""
    gpt2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "eos_token_id": 0}
    folder = build(tmp_path / "gpt2", ("GPT2Config", gpt2))
    jobs = [
        job(each, SCRIPT, meeting=tmp_path / f"meet-{each.name}", size=1) for each in (folder, tiny_llama)
    ]
    ((refused, answered),) = heard_together(jobs)
    assert refused["error"] == "ConfigError"
    assert "don't have q_proj" in refused["message"]
    assert_same(answered, play(load(str(tiny_llama), SETTINGS), SCRIPT))

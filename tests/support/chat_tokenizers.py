"""Tokenizers with chat templates of one's own, and the templates that models have."""

from pathlib import Path
from typing import Any

from made_tokenizers import Pair, config_of

from asynckit.models.light_tokenizer import LightTokenizer
from asynckit.models.tokenizer import load_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
INST = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ ' ' + m['content'] + ' </s>' }}{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}"
    "{% endfor %}"
)
MARKED_INST = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ ' ' + m['content'] + ' </s>' }}{% endgeneration %}{% else %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
DROPS_REASONING = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' }}"
    "{% if m.reasoning_content and loop.last %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ 'tools: ' + tools | tojson + '\n' }}{% endif %}"
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' }}"
    "{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}"
    "{{ (m.content or '') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def chat_tokenizer(kind: str, template: str | None, folder: Path) -> Pair:
    """A tokenizer of that kind with that template, as transformers has it and as a light one."""
    whole: Any = load_tokenizer(None, config_of(kind, folder))
    whole.chat_template = template
    return Pair(LightTokenizer(whole), whole)

"""What tests of tokenization share."""

from pathlib import Path

import pytest
from tiny_models import save_tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder with a small byte-level tokenizer that has a chat template."""
    folder = tmp_path_factory.mktemp("tokenizers") / "tiny"
    save_tokenizer(folder)
    return folder

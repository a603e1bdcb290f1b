"""A token is shown with its text, its neighbours and the bytes of the input that it comes from."""

import io
import json
from pathlib import Path

import pytest
from made_tokenizers import config_of
from rich.console import Console
from tokenized import TEXTS, write_tokenized

from asynckit.errors import DependencyError, InputError
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer_parts import load_parts
from asynckit.tokenization.afterwards.inspecting import Inspection, around, beginning, render
from asynckit.tokenization.afterwards.vocabulary import Vocabulary, open_vocabulary
from asynckit.tokenization.outputs.dataset import TokenDataset

VOCABULARY = Vocabulary(load_parts(ModelConfig()))
FORMATS = ["megatron", "npy", "parquet", "arrow"]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("pack_length", [None, 64])
def test_every_token_leads_to_its_record(tmp_path: Path, file_format: str, pack_length: int | None) -> None:
    """The byte range is that of the line whose text the document is."""
    write_tokenized(tmp_path / "out", file_format=file_format, pack_length=pack_length)
    dataset = TokenDataset.open(tmp_path / "out")
    texts = [text for its in TEXTS.values() for text in its]
    for position in range(dataset.token_count):
        found = around(dataset, VOCABULARY, position, 5)
        assert [token.position for token in found.tokens].count(position) == 1
        assert len(found.tokens) == 5
        if found.place is not None:
            line = Path(found.place.source).read_bytes()[found.place.start : found.place.end]
            text = texts[found.place.document]
            assert json.loads(line)["text"] == text
            assert found.place.counted_in == "bytes"
            ids = dataset.document(found.place.document).tolist()
            here = next(token for token in found.tokens if token.position == position)
            assert (ids[found.place.offset], found.place.document) == (here.id, here.document)


def test_the_mark_is_around_whole_characters(tmp_path: Path) -> None:
    """Most characters of the world are several tokens, and half of one is no text."""
    write_tokenized(tmp_path / "out", {"a.jsonl": ["a猫é🦊b"]})
    dataset = TokenDataset.open(tmp_path / "out")
    shown = [around(dataset, VOCABULARY, position, 64) for position in range(dataset.token_count)]
    assert {each.before + each.at + each.after for each in shown} == {"a猫é🦊b<|im_end|>"}
    assert "".join(dict.fromkeys(each.at for each in shown)) == "a猫é🦊b<|im_end|>"
    cut = around(dataset, VOCABULARY, 1, 1)
    assert (cut.before, cut.at, cut.after) == ("", r"\xe7", "")


def shown_on_a_terminal(inspection: Inspection) -> str:
    """Without the styles."""
    out = io.StringIO()
    console = Console(width=200, file=out)
    for part in render(inspection):
        console.print(part)
    return out.getvalue()


def test_a_document_is_shown_from_its_beginning(tmp_path: Path) -> None:
    """As many tokens as were asked for, and none of the next document."""
    write_tokenized(tmp_path / "out")
    dataset = TokenDataset.open(tmp_path / "out")
    found = beginning(dataset, VOCABULARY, 1, 64)
    assert found.at + found.after == "Über Köln scheint die Sonne.<|im_end|>"
    assert len(beginning(dataset, VOCABULARY, 1, 3).tokens) == 3
    assert found.tokens[-1].special
    with pytest.raises(InputError, match="no document 99"):
        beginning(dataset, VOCABULARY, 99, 64)


def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    """Positions beyond the end, and documents without tokens."""
    write_tokenized(tmp_path / "out", {"a.jsonl": [""]}, eos=False)
    dataset = TokenDataset.open(tmp_path / "out")
    with pytest.raises(InputError, match="has no tokens"):
        beginning(dataset, VOCABULARY, 0, 64)
    with pytest.raises(InputError, match="there are none"):
        around(dataset, VOCABULARY, 0, 64)


def test_padding_and_what_is_learned_are_said(tmp_path: Path) -> None:
    """A trainer's view: what is no document, and what the mask lets it learn."""
    write_tokenized(tmp_path / "out", pack_length=64, loss_mask=True)
    dataset = TokenDataset.open(tmp_path / "out")
    found = around(dataset, VOCABULARY, dataset.token_count - 1, 8)
    assert found.place is None
    assert {token.document for token in found.tokens} == {None}
    shown = shown_on_a_terminal(found)
    assert "none: this is padding" in shown
    assert "not learned" in shown
    assert "← here" in shown


def test_escape_sequences_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """A corpus may hold any characters."""
    write_tokenized(tmp_path / "out", {"a.jsonl": ["a\x1b[2J\u202e[bold]b"]})
    shown = shown_on_a_terminal(around(TokenDataset.open(tmp_path / "out"), VOCABULARY, 0, 64))
    assert not {"\x1b", "\u202e"} & set(shown)
    assert "[bold]b" in shown


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Its texts would be wrong ones."""
    manifest = write_tokenized(tmp_path / "out")
    config_of("byte-level", tmp_path / "other")
    with pytest.raises(InputError, match="not the one that made these tokens"):
        open_vocabulary(manifest.tokenizer, ModelConfig(), str(tmp_path / "other"))
    with pytest.raises(DependencyError) as caught:
        open_vocabulary(manifest.tokenizer, ModelConfig(), str(tmp_path / "nowhere"))
    assert "--tokenizer" in caught.value.mend
    assert open_vocabulary(manifest.tokenizer, ModelConfig()).tokenizer.vocabulary == 49152

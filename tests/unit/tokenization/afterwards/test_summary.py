"""What is said of a folder is what counting its documents one by one gives, in every format."""

import io
import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from made_tokenizers import config_of
from rich.console import Console
from tokenized import EOS, TEXTS, embedded, write_tokenized

from asynckit.errors import InputError
from asynckit.models.config import ModelConfig
from asynckit.models.tokenizer_parts import load_parts
from asynckit.tokenization.afterwards.counting import count
from asynckit.tokenization.afterwards.summary import Summary, summarize_tally
from asynckit.tokenization.afterwards.summary_view import render, to_html
from asynckit.tokenization.afterwards.vocabulary import Vocabulary
from asynckit.tokenization.outputs.dataset import TokenDataset
from asynckit.tokenization.outputs.manifest import write_manifest

HOSTILE = "</td><script>alert(1)</script>\x1b[2J\u202e"


def summed(folder: Path, top: int = 20) -> Summary:
    vocabulary = Vocabulary(load_parts(ModelConfig()))
    dataset = TokenDataset.open(folder)
    told: list[int] = []
    tally = count(dataset, vocabulary.spelling(dataset.manifest.tokenizer.vocabulary), told.append)
    assert told[-1] == dataset.token_count
    return summarize_tally(folder, dataset.manifest, tally, vocabulary, top)


@pytest.mark.parametrize("file_format", ["megatron", "npy", "parquet", "arrow"])
@pytest.mark.parametrize("pack_length", [None, 64])
def test_every_number_is_that_of_the_documents(
    tmp_path: Path, file_format: str, pack_length: int | None
) -> None:
    """Padding is not counted, text is measured in its own bytes, and a cut document is one."""
    write_tokenized(tmp_path / "out", file_format=file_format, pack_length=pack_length)
    summary = summed(tmp_path / "out")
    tokenizer, _ = embedded()
    texts = [text for its in TEXTS.values() for text in its]
    documents = [[*tokenizer.encode(text, add_special_tokens=False), EOS] for text in texts]
    lengths = sorted(map(len, documents))
    assert (summary.documents, summary.tokens) == (len(documents), sum(lengths))
    assert (summary.lengths.shortest, summary.lengths.longest) == (lengths[0], lengths[-1])
    assert summary.lengths.percentiles[50] == lengths[3]
    assert summary.special == len(documents) / sum(lengths)
    assert summary.text_bytes == len("".join(texts).encode())
    counted = Counter(id_ for document in documents for id_ in document)
    assert {each.id: each.count for each in summary.top} == {
        id_: times for id_, times in counted.items() if id_ in {each.id for each in summary.top}
    }
    assert [each.count for each in summary.top] == sorted(counted.values(), reverse=True)[:20]
    for source, its in zip(summary.sources, TEXTS.values(), strict=True):
        bytes_ = len("".join(its).encode())
        assert (source.documents, source.text_bytes) == (len(its), bytes_)
        assert source.tokens_per_byte == (source.tokens - len(its)) / bytes_
    if pack_length:
        assert summary.packing is not None
        assert summary.packing.efficiency == sum(lengths) / TokenDataset.open(tmp_path / "out").token_count
        assert summary.packing.cut_documents == 1
    assert summary.learned is None
    assert summary.unknown is None
    assert 0 < summary.bytes < 0.2  # the cat and the fox are several tokens each


def test_the_share_that_is_learned_leaves_padding_out(tmp_path: Path) -> None:
    """A half-empty sequence does not look like one that is masked."""
    write_tokenized(tmp_path / "out", pack_length=64, loss_mask=True)
    dataset = TokenDataset.open(tmp_path / "out")
    odd = [id_ % 2 for _, document in dataset.documents() for id_ in document.tolist()]
    assert summed(tmp_path / "out").learned == sum(odd) / len(odd)


def test_documents_without_tokens_are_documents(tmp_path: Path) -> None:
    """They have the length 0, also where packing has no place for them."""
    for pack_length in (None, 8):
        folder = tmp_path / str(pack_length) / "out"
        write_tokenized(folder, {"a.jsonl": ["", "", "a"]}, pack_length=pack_length, eos=False)
        summary = summed(folder)
        assert [(each.low, each.documents) for each in summary.lengths.bins] == [(0, 2), (1, 1)]
    write_tokenized(tmp_path / "none" / "out", {"a.jsonl": []})
    summary = summed(tmp_path / "none" / "out")
    assert (summary.tokens, summary.lengths.bins, summary.tokens_per_byte) == (0, [], None)
    assert json.loads(json.dumps(summary.to_dict()))["documents"] == 0


def test_what_others_wrote_is_harmless(tmp_path: Path) -> None:
    """Names and tokens reach neither the terminal nor the page as anything but text."""
    (tmp_path / "sub").mkdir()
    manifest = write_tokenized(tmp_path / "sub" / "out", {"a.jsonl": [HOSTILE * 3]})
    tokenizer = msgspec.structs.replace(manifest.tokenizer, name=HOSTILE)
    write_manifest(tmp_path / "sub" / "out", msgspec.structs.replace(manifest, tokenizer=tokenizer))
    summary = summed(tmp_path / "sub" / "out")
    page = to_html(summary)
    assert "<script" not in page
    assert not {"\x1b", "\u202e"} & set(page)
    ET.fromstring(page[page.index("<main>") : page.index("</body>")])  # noqa: S314 - our own output
    out = io.StringIO()
    for part in render(summary):
        Console(width=200, file=out).print(part)
    assert "most frequent" in out.getvalue()
    assert not {"\x1b", "\u202e"} & set(out.getvalue())


def test_a_damaged_folder_is_not_counted(tmp_path: Path) -> None:
    """Ids that no token has would be counted as something else."""
    write_tokenized(tmp_path / "out")
    path = tmp_path / "out" / "data-00000.bin"
    path.write_bytes(b"\xff\xff" + path.read_bytes()[2:])
    with pytest.raises(InputError, match="no ids of the vocabulary") as caught:
        summed(tmp_path / "out")
    assert "verify" in caught.value.mend


@pytest.mark.parametrize(
    ("kind", "unknown"),
    [("byte-level", None), ("byte-fallback", 0), ("metaspace", 0), ("word ends", 0), ("python", 2)],
)
def test_the_unknown_token_is_the_one_that_texts_become(
    kind: str, unknown: int | None, tmp_path: Path
) -> None:
    """Tokenizers also name one that nothing becomes."""
    assert Vocabulary(load_parts(config_of(kind, tmp_path))).unknown == unknown


def test_tokens_of_bytes_are_told_from_characters(tmp_path: Path) -> None:
    """With byte fallback they are its tokens, in byte-level vocabularies the parts of characters."""
    fallback = Vocabulary(load_parts(config_of("byte-fallback", tmp_path)))
    assert len(fallback.byte_ids()) == 256
    whole = Vocabulary(load_parts(ModelConfig()))
    cat = whole.tokenizer.encode("猫", add_special_tokens=False)
    assert set(cat) <= whole.byte_ids()
    assert not set(whole.tokenizer.encode("the cat é")) & whole.byte_ids()
    assert whole.written(cat[0]) == r"b'\xe7'"
    assert whole.written(EOS) == "<|im_end|>"
    assert whole.written(whole.tokenizer.encode(" cat")[0]) == "' cat'"

"""Which answers are captions, what the caption file survives, and captions by a model on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from segscale.bench.captions.captioner import (
    Captioner,
    NoCaptionError,
    caption_from,
    caption_question,
    word_limit,
)
from segscale.bench.captions.file import CaptionFile
from segscale.bench.captions.model import ModelCaptioner
from segscale.bench.captions.write import write_captions
from segscale.bench.commands.main import main
from segscale.catalogue import config_files
from segscale.datasets.dataset import Sample
from segscale.datasets.files import FileError
from segscale.datasets.pocket import PocketScenes
from segscale.datasets.prompts.caption_file import captions_of
from segscale.errors import UserError
from segscale.registry import build

ORIGIN = {"dataset": "pocket", "split": "val", "captioner": "a", "words": 20, "revision": "v1"}


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("  dog,\n grass ", "dog, grass"),
        ('"dog, grass"', "dog, grass"),
        ("<think>a dog,\nor a wolf?</think>\n\ndog, grass", "dog, grass"),
        ("(person, jacket), dog, grass, sky, a long road", "(person, jacket), dog, grass, sky"),
        ("dog, (person, jacket, hat, glove, shoe), grass", "dog"),
        ("dog, (person, hat), Dog, grass, (person, hat), dog, sky,", "dog, (person, hat), grass, sky"),
        ("a big dog that lies on the grass", "a big dog that lies"),
        ("(person, jacket, hat, glove, shoe, scarf)", "person, jacket, hat, glove, shoe"),
        ("sorrel horse, grass", "sorrel horse, grass"),
    ],
)
def test_an_answer_becomes_a_line_within_the_limit(answer: str, caption: str) -> None:
    assert caption_from(answer, 5) == caption


REFUSALS = ("", "...", "\n", "I'm sorry, but I cannot.", "Sorry, no.", "I am unable to see.", "As an AI model, I")


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_no_caption(answer: str) -> None:
    with pytest.raises(NoCaptionError) as caught:
        caption_from(answer, 20)
    assert caught.value.refused


ENTITIES = st.lists(
    st.sampled_from(["dog", "dining table", "(person, hat)", "(car, wheel, road)"]), min_size=1, unique=True
)


@given(ENTITIES, st.integers(3, 12))
def test_a_list_is_cut_between_entities(entities: list[str], words: int) -> None:
    caption = caption_from(", ".join(entities), words)
    count = max(n for n in range(len(entities) + 1) if len(", ".join(entities[:n]).split()) <= words)
    assert caption == ", ".join(entities[:count])


@given(st.text(), st.integers(1, 9))
def test_no_answer_is_longer_than_the_limit(answer: str, words: int) -> None:
    try:
        caption = caption_from(answer, words)
    except NoCaptionError:
        return
    assert 1 <= len(caption.split()) <= words
    assert "\n" not in caption


def test_the_question_names_the_classes_and_the_limit() -> None:
    assert caption_question(["dog", "potted plant"], 35).endswith("use exactly that name: dog, potted plant.")
    assert "at most 35 words" in caption_question(["dog"], 35)


def test_captions_of_pascal_context_are_longer_as_published() -> None:
    limits = {name: word_limit(name) for name in config_files("dataset")}
    assert {name for name, words in limits.items() if words == 35} == {"context59", "context60"}
    assert {*limits.values()} == {20, 35}


class Counting(Captioner):
    """Says how often it was asked."""

    name = "a"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, image: Image.Image, question: str) -> str:
        self.asked += 1
        return f"thing {self.asked}"


def test_stored_captions_are_kept_under_file_names_too(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"val-00001.jpg": {"caption": "a dog"}, "other.v2.png": {"caption": "a cat"}}))
    captioner = Counting()
    report = write_captions(build("dataset", "pocket"), captioner, path, 20, limit=3)
    assert (captioner.asked, report.captions, report.images) == (2, 3, 3)
    expected = {"other.v2.png": "a cat", "val-00000": "thing 1", "val-00001.jpg": "a dog", "val-00002": "thing 2"}
    content = json.loads(path.read_text())
    assert list(content) == list(expected)
    assert content == {key: {"caption": caption} for key, caption in expected.items()}


def test_an_image_with_an_empty_caption_is_asked_about_again(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"val-00000.jpg": {"caption": " "}, "val-00001": {"caption": "a dog"}}))
    captioner, dataset = Counting(), build("dataset", "pocket")
    assert write_captions(dataset, captioner, path, 20, limit=2).captions == 2
    assert captions_of(dataset.ids, path).by_id == {"val-00000": "thing 1", "val-00001": "a dog"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_cannot_be_read_is_named_and_passed_over(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, whole = build("dataset", "pocket"), PocketScenes.__getitem__

    def read(self: PocketScenes, index: int) -> Sample:
        if index == 1:
            raise FileError("damaged", "image 1 is damaged")
        return whole(self, index)

    monkeypatch.setattr(PocketScenes, "__getitem__", read)
    report = write_captions(dataset, Counting(), tmp_path / "c.json", 20, limit=4, workers=workers)
    assert (report.images, report.captions) == (4, 3)
    assert report.failed == {"val-00001": "image 1 is damaged"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"val-00001": {"caption": "a d', "is damaged"),
        ("[]", "holds no captions by image"),
        ('{"val-00001": "a dog"}', "has no caption under 'val-00001'"),
        ('{"val-00001": {"caption": null}}', "has no caption under 'val-00001'"),
    ],
)
def test_a_damaged_file_is_one_line_and_left_alone(
    tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    line = failing(["caption", "--endpoint", "http://127.0.0.1:9", "--captioner", "a", "-o", str(path)], capsys)
    assert f"{path} {message}" in line
    assert line.endswith("remove it or choose another --output")
    assert path.read_text() == content


@pytest.mark.parametrize(("key", "other"), [("captioner", "b"), ("words", 35), ("split", "train"), ("revision", None)])
def test_captions_of_two_writers_are_not_mixed(tmp_path: Path, key: str, other: object) -> None:
    path = tmp_path / "deep" / "c.json"
    file = CaptionFile(path, ORIGIN)
    file.add("one", "a dog \ud800")
    file.save()
    assert CaptionFile(path, ORIGIN).captioned(["one", "two"]) == {"one"}
    with pytest.raises(UserError, match=f"was written with another {key}: {ORIGIN[key]}; choose another --output"):
        CaptionFile(path, ORIGIN | {key: other})
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["c.json", "c.origin.json"]


def test_a_record_of_an_earlier_version_is_of_no_revision(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    captioner = Counting()
    write_captions(build("dataset", "pocket"), captioner, path, 20, limit=1)
    record = tmp_path / "c.origin.json"
    earlier = {key: value for key, value in json.loads(record.read_text()).items() if key != "revision"}
    record.write_text(json.dumps(earlier))
    assert write_captions(build("dataset", "pocket"), captioner, path, 20, limit=2).captions == 2
    captioner.revision = "v2"
    with pytest.raises(UserError, match="was written with another revision: none; choose another --output"):
        write_captions(build("dataset", "pocket"), captioner, path, 20, limit=3)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = CaptionFile(tmp_path / "new.json", ORIGIN)
    file.path = tmp_path / "file" / "new.json"
    with pytest.raises(UserError, match="cannot be written"):
        file.save()


BAD_INPUT = {
    "--dataset pokcet": "did you mean pocket?",
    "--endpoint http://x/v1": "the endpoint's model is not named; name it with --captioner",
    "--endpoint localhost:8000 --captioner a": "--endpoint is no web address",
    "--endpoint http://u:secret@x/v1 --captioner a": "--endpoint may hold no key, user or query",
    "--endpoint https://x/v1?key=secret --captioner a": "put the key into SEGSCALE_API_KEY",
    "--endpoint http://x:99999/v1 --captioner a": "--endpoint is no web address",
    "--captioner a --workers 2": "--workers, --rate and --temperature are for an endpoint; name it with --endpoint",
    "--captioner a --temperature none": "--temperature are for an endpoint",
    "--endpoint http://x/v1 --captioner a --device cuda": "--offline are for a model on this machine; leave them out",
    "--endpoint http://x/v1 --captioner a --revision v2": "--offline are for a model on this machine; leave them out",
    "--captioner a --temperature hot": "'hot' is neither none nor a number from 0 to 2",
    "--captioner ./nowhere": "the hub has no model ./nowhere, or not for you; check --captioner",
    "--captioner some/thing --offline": "some/thing is not in the cache",
    "--captioner some/thing --device quantum": "there is no device 'quantum' here",
}


@pytest.mark.parametrize("options", BAD_INPUT)
def test_bad_input_is_one_line(options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failing(["caption", "-o", str(tmp_path / "c.json"), *options.split()], capsys)
    assert BAD_INPUT[options] in line
    assert "secret" not in line
    assert not list(tmp_path.iterdir())


# In the manner of Idefics3: image first, then the question.
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
SPECIAL = ["<unk>", "<pad>", "<bos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
WORDS = ["dog", "cat", "grass", "sky", "road", "star"]


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and a few words with a comma to answer with."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *letters])}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([f"{word}, " for word in WORDS])
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<end_of_utterance>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=SPECIAL[3:], **names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the class of the default one, small, that answers with words which depend on the image."""
    path, tokenizer = tmp_path_factory.mktemp("model"), small_tokenizer()
    side = {"longest_edge": 32}
    images = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE).save_pretrained(path)
    width = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": SPECIAL.index("<end_of_utterance>")}
    config = Idefics3Config(
        vision_config=width | {"image_size": 32, "patch_size": 8},
        text_config=width | {"model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(tokenizer)} | ids,
        scale_factor=2,
        image_token_id=SPECIAL.index("<image>"),
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(4)
        model = Idefics3ForConditionalGeneration(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(40)
        # Zero for every token but the words, whose logits sum to zero: one of them always wins.
        model.lm_head.weight[: -len(WORDS)] *= 0
        model.lm_head.weight[-len(WORDS) :] -= model.lm_head.weight[-len(WORDS) :].mean(0)
    model.save_pretrained(path)
    return path


def test_a_local_model_writes_the_same_captions_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        main(["caption", "--captioner", str(folder), "--limit", "6", "-o", str(tmp_path / f"{name}.json")])
    assert f"6 of 6 images have a caption\nwrote {tmp_path / 'one.json'}" in capsys.readouterr().out
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    captions = {key: entry["caption"] for key, entry in json.loads((tmp_path / "one.json").read_text()).items()}
    assert list(captions) == [f"val-{number:05d}" for number in range(6)]
    assert {word for caption in captions.values() for word in caption.split(", ")} <= {*WORDS}
    assert len(set(captions.values())) > 1
    assert max(len(caption.split()) for caption in captions.values()) <= 20
    sample = build("dataset", "pocket")[3]
    asked = json.loads((tmp_path / "one.origin.json").read_text())["question"]
    assert caption_from(ModelCaptioner(str(folder))(sample.image, asked), 20) == captions["val-00003"]


def test_what_is_generated_is_bounded_by_the_words(folder: Path) -> None:
    image = Image.fromarray(np.zeros((9, 200), np.uint8))
    assert len(ModelCaptioner(str(folder), words=2)(image, "what?").split()) <= 12


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_weights_come_from_safetensors_only(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = copied(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save(Idefics3ForConditionalGeneration.from_pretrained(folder).state_dict(), pickled / "pytorch_model.bin")
    line = failing(["caption", "--captioner", str(pickled), "-o", str(tmp_path / "c.json")], capsys)
    assert f"weights of {pickled} cannot be loaded" in line
    assert "safetensors" in line


def test_a_model_without_a_chat_template_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = copied(folder, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    line = failing(["caption", "--captioner", str(base), "-o", str(tmp_path / "c.json")], capsys)
    assert f"{base} takes no questions about images; use an instruct model" in line


def test_a_processor_that_needs_more_packages_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("this processor needs torchvision")

    monkeypatch.setattr("transformers.Idefics3Processor.from_pretrained", missing)
    line = failing(["caption", "--captioner", str(folder), "-o", str(tmp_path / "c.json")], capsys)
    assert f"{folder} needs a package that is not here: this processor needs torchvision; install" in line

"""The models at hand: cards, the default, and what is refused. Model directories here are a few bytes: weights of zeros."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ranker.elimination import AnswerFormat
from ranker.errors import CheckpointError, UsageError
from trainer.modelcards import ModelCard, write_card
from trainer.registry import BASE_MODEL, Registry

MakeModel = Callable[..., Path]


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file of float32 zeros."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        num_bytes = 4
        for n in shape:
            num_bytes *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + num_bytes]}
        offset += num_bytes
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a model directory; keyword arguments go into its config, None leaves the file `weights` out."""

    def make(name: str = "tiny", *, weights: dict[str, list[int]] | None = None, **config: object) -> Path:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
        (directory / "tokenizer.json").write_text("{}")
        (directory / "model.safetensors").write_bytes(safetensors(weights or {"a": [3, 4], "b": [5]}))
        return directory

    return make


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def test_directory_is_used_where_it_is(registry: Registry, make_model) -> None:
    path = make_model(weights={"a": [3, 4], "b": [5]})
    (path / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# A model\n")
    card = registry.add(path, "mine")
    assert Path(card.directory) == path
    assert card.num_parameters == 17
    assert card.license == "apache-2.0"
    assert card.answer_format is AnswerFormat.FREE
    assert registry.card("mine") == card
    assert registry.verify() == []


def test_answer_format_can_be_given(registry: Registry, make_model) -> None:
    assert registry.add(make_model(), "m", answer_format=AnswerFormat.SCORED).answer_format is AnswerFormat.SCORED


def test_changed_weights_are_found(registry: Registry, make_model) -> None:
    path = make_model()
    registry.add(path, "mine")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert ["changed since it was added" in line for line in registry.verify()] == [True]


def test_deleted_directory_is_one_line(registry: Registry, make_model) -> None:
    path = make_model()
    registry.add(path, "mine")
    (path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"\*\.safetensors: none found"):
        registry.load("mine")


def spoil_pickle(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def spoil_code(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))


def spoil_cut(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])


def spoil_header(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"\xff" * 64)


def spoil_shard(path: Path) -> None:
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00002.safetensors"}}))


def spoil_adapter(path: Path) -> None:
    (path / "config.json").rename(path / "adapter_config.json")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_pickle, "is a pickle"),
        (spoil_code, "brings its own code"),
        (spoil_cut, "is cut short"),
        (spoil_header, "is not safetensors"),
        (spoil_shard, "model-00002.safetensors: missing"),
        (spoil_adapter, "is an adapter"),
        (lambda path: (path / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda path: (path / "config.json").unlink(), "config.json: missing"),
        (lambda path: (path / "tokenizer.json").unlink(), "tokenizer: missing"),
        (lambda path: (path / "model.safetensors").unlink(), "none found"),
    ],
)
def test_unsafe_or_incomplete_model_is_refused_in_one_line(registry: Registry, make_model, spoil, says: str) -> None:
    path = make_model()
    spoil(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        registry.add(path, "mine")
    assert "\n" not in str(caught.value)
    assert registry.cards() == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "two words"])
def test_name_that_is_no_plain_name_is_refused(registry: Registry, make_model, name: str) -> None:
    with pytest.raises(UsageError, match="--as"):
        registry.add(make_model(), name)
    with pytest.raises(UsageError):
        registry.card(name or "..")


def test_taken_name_is_refused(registry: Registry, make_model) -> None:
    path = make_model()
    registry.add(path, "mine")
    with pytest.raises(UsageError, match="choose another"):
        registry.add(path, "mine")


def test_neither_directory_nor_hub_id(registry: Registry) -> None:
    with pytest.raises(CheckpointError, match="no such directory, and not a hub id"):
        registry.add("./nowhere/at/all", "mine")


def test_default_before_it_is_fetched_says_how(registry: Registry) -> None:
    assert registry.cards() == []
    with pytest.raises(CheckpointError, match="once with a network"):
        registry.card()


def test_promoted_model_is_the_default_for_every_reader(registry: Registry, tmp_path: Path, make_model) -> None:
    registry.add(make_model("one"), "one")
    registry.add(make_model("two"), "two")
    assert registry.promote("two").name == "two"
    again = Registry(tmp_path / "models")
    assert again.card().name == "two"
    assert [card.name for card in again.cards()] == ["two", "one"]
    assert again.card("one").name == "one", "a name given goes before the default"


def test_promoting_a_directory_adds_it(registry: Registry, make_model) -> None:
    assert registry.promote(str(make_model("checkpoint-40"))).name == "checkpoint-40"
    assert registry.card().name == "checkpoint-40"


def test_promoting_nothing_known_changes_nothing(registry: Registry) -> None:
    with pytest.raises(UsageError, match="no such model"):
        registry.promote("nobody")
    assert registry.default_name() == BASE_MODEL


def test_default_that_was_deleted_is_a_problem(registry: Registry, tmp_path: Path, make_model) -> None:
    registry.promote(str(make_model("one")))
    (tmp_path / "models/one/model.json").unlink()
    assert ["choose one with `models promote`" in line for line in registry.verify()] == [True]


def test_damaged_card_hides_one_model_only(registry: Registry, tmp_path: Path, make_model) -> None:
    registry.add(make_model(), "good")
    (tmp_path / "models/bad").mkdir()
    (tmp_path / "models/bad/model.json").write_text('{"engine": "eval"}')
    assert [card.name for card in registry.cards()] == ["good"]
    with pytest.raises(CheckpointError, match=r"model\.json: "):
        registry.card("bad")
    assert len(registry.verify()) == 1


def test_card_survives_the_file(tmp_path: Path) -> None:
    card = ModelCard(name="s", engine="scripted", options={"delay_s": 0.5}, license="mit", num_parameters=3)
    read = write_card(tmp_path, card)
    assert read == card.model_copy(update={"directory": str(tmp_path / "s")})


def test_scripted_model_loads_with_its_options(tmp_path: Path) -> None:
    write_card(tmp_path, ModelCard(name="s", engine="scripted"))
    assert Registry(tmp_path).load("s").name == "s"


@pytest.mark.model
def test_default_model_is_what_was_pinned(default_models_dir: Path) -> None:
    registry = Registry(default_models_dir)
    card = registry.card(BASE_MODEL)
    assert card.answer_format is AnswerFormat.SCORED, "it is not trained on the format"
    assert card.num_parameters == 134_515_008
    settings = json.loads((Path(card.directory) / "tokenizer_config.json").read_text())
    assert settings["pad_token"] == "<|endoftext|>" != settings["eos_token"]
    assert registry.verify() == []


def test_a_promotion_can_be_taken_back_step_by_step(registry: Registry, tmp_path: Path, make_model) -> None:
    for name in ("one", "two"):
        registry.promote(str(make_model(name)))
    registry.promote("two")
    assert registry.replaced_name() == "one"
    assert registry.undo_promote() == "one" == registry.default_name()
    assert registry.undo_promote() == BASE_MODEL == registry.default_name()
    with pytest.raises(UsageError, match="nothing to take back"):
        registry.undo_promote()


def test_a_model_that_is_gone_is_passed_over_when_a_promotion_is_taken_back(
    registry: Registry, tmp_path: Path, make_model
) -> None:
    for name in ("one", "two", "three"):
        registry.promote(str(make_model(name)))
    (registry._dir / "two" / "model.json").unlink()
    assert registry.undo_promote() == "one"
    assert registry.undo_promote() == BASE_MODEL

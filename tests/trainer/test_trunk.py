"""What is computed once is what would be computed each time: trunk and frozen vocabulary against the plain forward pass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from ranker.elimination import AnswerFormat
from ranker.schema import Candidate, Domain, RankingTask
from trainer import scoring
from trainer.encoding import Encoder, TitleRow
from trainer.examples import TrainingExample
from trainer.loading import keep_inputs
from trainer.orders import grade_exclusions
from trainer.packing import pack_titles
from trainer.scoring import log_probs_of, score_titles
from trainer.trunk import Trunk

TITLES = ("Alien", "Heat (1995)", "Rope (1948)", "Ran (1985)")
PLENTY = 10**9


def example(number: int, pool: Sequence[str], domain: Domain = Domain.OTHER) -> TrainingExample:
    candidates = tuple(Candidate(candidate_id=str(k), text=title) for k, title in enumerate(TITLES))
    task = RankingTask(task_id=f"t{number}", domain=domain, query=f"film {number}", candidates=candidates)
    tiers = tuple((i,) for i in task.candidate_ids)
    return TrainingExample(task=task, pool=tuple(pool), grades=grade_exclusions(tiers, pool), tiers=tiers)


@pytest.fixture
def model(toy_model_dir: Path) -> Any:
    """An adapter on the second of two layers, as a job with `last_layers: 1` has it, that is no longer at its start."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(toy_model_dir, dtype=torch.float32, attn_implementation="sdpa")
    lora = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], layers_to_transform=[1], task_type="CAUSAL_LM")
    policy = get_peft_model(base, lora)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return policy


@pytest.fixture
def rows(toy_model_dir: Path) -> list[TitleRow]:
    encoder = Encoder(AutoTokenizer.from_pretrained(toy_model_dir), AnswerFormat.LIKELIHOOD)
    made = [example(1, "0123"), example(2, "31"), example(3, "012", Domain.PASSAGE), example(1, "20")]
    return [encoder.title_row(e) for e in made]


class Calls:
    """How many tokens went through a layer."""

    def __init__(self, layer: Any) -> None:
        self.tokens = 0
        layer.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: Any, args: Any, kwargs: Any) -> None:
        self.tokens += (args[0] if args else kwargs["hidden_states"]).shape[:2].numel()


def gradients(model: Any, scores: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, len(scores))
    return list(torch.autograd.grad((scores * weights).sum(), [p for p in model.parameters() if p.requires_grad]))


def layers(model: Any) -> Any:
    return model.get_base_model().model.layers


def test_scores_and_gradients_are_those_without_a_trunk(model: Any, rows: list[TitleRow]) -> None:
    trunk = Trunk.of(model, PLENTY)
    assert trunk is not None and trunk.num_layers == 1
    for batch in (rows, rows[1:3], rows[::-1]):  # new, known, known and laid otherwise
        packed = pack_titles(batch)
        plain, kept = score_titles(model, packed), score_titles(model, packed, trunk)
        assert torch.allclose(plain, kept, atol=1e-5)
        for expected, found in zip(gradients(model, plain), gradients(model, kept), strict=True):
            assert torch.allclose(expected, found, atol=1e-5) and expected.abs().max() > 1e-4
    assert len(layers(model)) == 2, "the model is whole again"


def test_adapters_in_bfloat16_below_those_that_are_trained(toy_model_dir: Path, rows: list[TitleRow]) -> None:
    """An adapter to start from has factors in float32 in the trunk too, which reads what it is given."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(toy_model_dir, dtype=torch.bfloat16, attn_implementation="sdpa")
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = keep_inputs(get_peft_model(base, lora))
    layers(model)[0].requires_grad_(False)
    trunk = Trunk.of(model, PLENTY)
    assert trunk is not None and trunk.num_layers == 1
    packed = pack_titles(rows)
    assert torch.allclose(score_titles(model, packed), score_titles(model, packed, trunk), atol=0.05)


def test_a_text_goes_through_the_trunk_once(model: Any, rows: list[TitleRow]) -> None:
    trunk, below, above = Trunk.of(model, PLENTY), Calls(layers(model)[0]), Calls(layers(model)[1])
    score_titles(model, pack_titles(rows), trunk)
    first, trained = below.tokens, above.tokens
    score_titles(model, pack_titles(rows[:3]), trunk)
    score_titles(model, pack_titles(rows[3:]), trunk)  # two titles of the first task, which are known
    assert below.tokens == first > 0 and above.tokens > trained


def test_what_does_not_fit_is_computed_each_time(model: Any, rows: list[TitleRow]) -> None:
    """Room for the first row alone: the second is read anew, and only the second."""
    (one, two) = (pack_titles([row]) for row in rows[:2])
    num_bytes = one.places.numel() * 48 * 4
    trunk, below = Trunk.of(model, num_bytes), Calls(layers(model)[0])
    for _ in range(3):
        score_titles(model, one, trunk)
        found = score_titles(model, two, trunk)
    assert torch.allclose(found, score_titles(model, two), atol=1e-5)
    below.tokens = 0
    score_titles(model, pack_titles(rows[:2]), trunk)
    assert below.tokens == two.places.numel()


def test_no_trunk_where_everything_is_trained_or_nothing_may_be_kept(model: Any, toy_model_dir: Path) -> None:
    whole = AutoModelForCausalLM.from_pretrained(toy_model_dir)
    assert Trunk.of(whole, PLENTY) is None
    assert Trunk.of(model, 0) is None
    for parameter in whole.model.layers[0].parameters():
        parameter.requires_grad_(False)
    assert Trunk.of(whole, PLENTY) is None, "its embeddings are trained"


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_a_frozen_vocabulary_has_the_gradients_of_autograd(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same head, trained and not; tokens share states, and states are left out, in any order."""
    monkeypatch.setattr(scoring, "STATES_AT_ONCE", at_once)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False)
    states = torch.randn(7, 8, requires_grad=True)
    sources, targets = torch.tensor([5, 0, 5, 2, 5, 6]), torch.tensor([3, 49, 3, 0, 7, 11])
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
    expected = log_probs_of(head, states, sources, targets)
    (slope,) = torch.autograd.grad((expected * weights).sum(), states)
    head.weight.requires_grad_(False)
    found = log_probs_of(head, states, sources, targets)
    assert torch.allclose(found, expected, atol=1e-6)
    (own,) = torch.autograd.grad((found * weights).sum(), states)
    assert torch.allclose(own, slope, atol=1e-5) and not own[1].any()
    with torch.no_grad():
        assert torch.equal(log_probs_of(head, states, sources, targets), found)


def test_a_frozen_vocabulary_in_half_precision_never_says_more_than_certain() -> None:
    """Normaliser and logit are rounded alike."""
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 40, bias=False).to(torch.bfloat16).requires_grad_(False)
    states = (head.weight[:8] * 60).clone().requires_grad_()
    found = log_probs_of(head, states, torch.arange(8), torch.arange(8))
    expected = (states.detach() @ head.weight.T).float().log_softmax(-1)[torch.arange(8), torch.arange(8)]
    assert found.dtype is torch.float32 and (found <= 1e-6).all()
    assert torch.allclose(found, expected, atol=1e-6)
    found.sum().backward()
    assert states.grad is not None and states.grad.dtype is torch.bfloat16

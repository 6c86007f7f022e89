"""What is trained is what decides: packed scores equal the engine's, and gradients are those of a plain forward pass."""

import asyncio
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from ranker.backends import ScoreRequest
from ranker.backends.local import load_local
from ranker.elimination import AnswerFormat, RankConfig, rank
from ranker.prompts import close_thought
from ranker.schema import Candidate, Domain, Mode, RankingTask
from trainer.encoding import Encoder, ScoredText, TitleRow
from trainer.examples import TrainingExample
from trainer.loading import keep_inputs
from trainer.orders import grade_exclusions
from trainer.packing import pack_titles, tree_mask
from trainer.pools import Known, lay_out
from trainer.scoring import score_titles
from trainer.sft import IGNORED, ReadingTrainer, encode_likelihoods, pad_rows
from trainer.titles import known_pairs, title_losses

TASK = RankingTask(
    task_id="t",
    domain=Domain.OTHER,
    query="a film",
    candidates=tuple(
        Candidate(candidate_id=i, text=t)
        for i, t in [("a", "Heat (1995)"), ("b", "Alien"), ("c", "The Third Man (1949)")]
    ),
)
TIERS = (("c",), ("a",), ("b",))


def example(pool: tuple[str, ...], mode: Mode = Mode.ITERATIVE) -> TrainingExample:
    return TrainingExample(task=TASK, pool=pool, grades=grade_exclusions(TIERS, pool), tiers=TIERS, mode=mode)


@pytest.fixture(scope="module")
def toy(toy_model_dir: Path) -> tuple[object, Encoder]:
    model = AutoModelForCausalLM.from_pretrained(toy_model_dir, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval(), Encoder(AutoTokenizer.from_pretrained(toy_model_dir))


def test_packed_scores_are_those_of_the_engine(toy, toy_model_dir: Path) -> None:
    """Three decisions in one row, one of them in mode `direct`, against `Backend.score` of each alone."""
    model, encoder = toy
    examples = [example(("a", "b", "c")), example(("b", "c")), example(("c", "a", "b"), Mode.DIRECT)]
    packed = pack_titles([encoder.title_row(e) for e in examples])
    found = score_titles(model, packed).split(packed.pool_sizes)
    backend = load_local(toy_model_dir, name="toy", dtype=torch.float32)
    for scores, one in zip(found, examples, strict=True):
        prompt = close_thought(one.render(backend.chat_text), "")
        request = ScoreRequest(prompt=prompt, continuations=tuple(c.title for c in one.candidates))
        expected = asyncio.run(backend.score(request))
        sign = 1 if one.mode is Mode.ITERATIVE else -1
        means = [sign * x / n for x, n in zip(expected.log_probs, expected.num_tokens, strict=True)]
        assert scores.tolist() == pytest.approx(means, abs=2e-5)


def test_softmax_of_the_scores_is_the_probability_of_a_scored_decision(toy, toy_model_dir: Path) -> None:
    model, encoder = toy
    step = rank(TASK, load_local(toy_model_dir, name="toy", dtype=torch.float32), RankConfig(think_tokens=0)).steps[0]
    packed = pack_titles([encoder.title_row(example(step.pool))])
    probabilities = score_titles(model, packed).softmax(-1).tolist()
    assert step.probabilities is not None
    assert [step.probabilities[i] for i in step.pool] == pytest.approx(probabilities, abs=1e-5)


@pytest.mark.parametrize("domain", list(Domain))
def test_what_is_trained_by_likelihood_is_what_decides_by_likelihood(toy, toy_model_dir: Path, domain: Domain) -> None:
    model, encoder = toy
    task = TASK.model_copy(update={"domain": domain, "history": ("Ran (1985)", "Rope")})
    config = RankConfig(mode=Mode.ITERATIVE, answer_format=AnswerFormat.LIKELIHOOD)
    step = rank(task, load_local(toy_model_dir, name="toy", dtype=torch.float32), config).steps[0]
    by_likelihood = Encoder(encoder.tokenizer, AnswerFormat.LIKELIHOOD)
    one = example(step.pool).model_copy(update={"task": task})
    packed = pack_titles([by_likelihood.title_row(one), encoder.title_row(example(("a", "c")))])
    probabilities = score_titles(model, packed)[: len(step.pool)].softmax(-1).tolist()
    assert step.probabilities is not None
    assert [step.probabilities[i] for i in step.pool] == pytest.approx(probabilities, abs=1e-4)
    assert len(packed.pool_sizes) == 2


def test_a_decision_does_not_see_its_neighbours(toy) -> None:
    """Weights move by the same gradient whether decisions are packed or summed one by one."""
    model, encoder = toy
    rows = [encoder.title_row(example(("a", "b", "c"))), encoder.title_row(example(("c", "b")))]
    weight = model.model.layers[0].self_attn.q_proj.weight
    together = pack_titles(rows)
    scores = lay_out(score_titles(model, together), together.pool_sizes, 0.0)
    losses = title_losses(scores, Known.of([row.example for row in rows]), "pairs")
    (packed,) = torch.autograd.grad(losses.sum(), weight)
    alone = torch.zeros_like(weight)
    for row in rows:
        [loss] = title_losses(score_titles(model, pack_titles([row]))[None], Known.of([row.example]), "pairs")
        alone += torch.autograd.grad(loss, weight)[0]
    assert torch.allclose(packed, alone, atol=1e-6)
    assert packed.abs().max() > 1e-5


def test_a_batch_is_laid_in_rows_as_long_as_its_longest_decision(toy) -> None:
    """In one row for all, the mask would grow with the square of the batch."""
    _, encoder = toy
    rows = [encoder.title_row(example(pool)) for pool in (("a", "b", "c"), ("c", "b"), ("b", "a")) * 4]
    packed = pack_titles(rows)
    num_rows, width = packed.input_ids.shape
    assert width == max(row.num_tokens for row in rows)
    assert num_rows <= len(rows) and tree_mask(packed.prompts, packed.titles).shape == (num_rows, 1, width, width)


def test_a_titles_last_token_is_predicted_and_not_read() -> None:
    text = ScoredText([1, 2, 3], [[4], [5, 6, 7], [5, 8]])
    packed = pack_titles([TitleRow([text], [1.0, 1.0, 1.0], example(("a", "b", "c")))])
    assert packed.input_ids.flatten().tolist() == [1, 2, 3, 5, 6, 5]
    assert packed.position_ids.flatten().tolist() == [0, 1, 2, 3, 4, 3]
    assert packed.titles.flatten().tolist() == [-1, -1, -1, 1, 1, 2]
    assert (packed.targets.tolist(), packed.owners.tolist()) == ([4, 5, 6, 7, 5, 8], [0, 1, 1, 1, 2, 2])
    assert packed.sources.tolist() == [2, 2, 3, 4, 2, 5]
    assert (packed.piece_sizes, text.num_tokens) == ([3, 0, 2, 1], 6)


def test_adapters_in_bfloat16_say_and_learn_what_they_do_in_float32(toy, toy_model_dir: Path) -> None:
    """The same adapter on a model in bfloat16, with and without copies of its inputs in float32."""
    _, encoder = toy
    rows = [encoder.title_row(example(("a", "b", "c"))), encoder.title_row(example(("c", "b")))]
    packed = pack_titles(rows)
    found = []
    for prepare in (lambda model: model, keep_inputs):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_pretrained(toy_model_dir, dtype=torch.bfloat16, attn_implementation="sdpa")
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        model = get_peft_model(base, lora)
        model = prepare(model)
        scores = score_titles(model, packed)
        scores.square().sum().backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        assert all(g.dtype is torch.float32 for g in gradients) and len(gradients) > 4
        found.append((scores.detach(), torch.cat(gradients)))
    (plain, plain_gradient), (scores, gradient) = found
    assert torch.allclose(scores, plain, atol=0.05)
    assert torch.cosine_similarity(gradient, plain_gradient, dim=0) > 0.995 and gradient.norm() > 0.01


def test_known_pairs_of_orders_and_of_judged_steps() -> None:
    assert known_pairs(example(("a", "b", "c"))) == [(0, 1), (2, 0), (2, 1)]
    judged = TrainingExample(task=TASK, pool=("a", "b", "c"), grades={"a": 1.0, "b": 0.0, "c": 0.0})
    assert known_pairs(judged) == [(1, 0), (2, 0)]
    kept = TrainingExample(task=TASK, pool=("a", "b", "c"), grades={"a": 0.0, "b": None, "c": None})
    assert known_pairs(kept) == []


LOSSES = [
    # loss, scores of excluding a, b, c (order c > a > b), by hand
    ("pairs", [0.0, 0.0, 0.0], torch.log(torch.tensor(2.0))),
    ("right", [0.0, 0.0, 0.0], torch.log(torch.tensor(3.0))),
    ("reward", [0.0, 0.0, 0.0], torch.tensor(-0.5)),
    ("right", [0.0, 50.0, 0.0], torch.tensor(0.0)),
    ("reward", [0.0, 50.0, 0.0], torch.tensor(-1.0)),
    ("pairs", [0.0, 50.0, -50.0], torch.tensor(0.0)),
]


@pytest.mark.parametrize(("loss", "scores", "expected"), LOSSES)
def test_losses_by_hand(loss: str, scores: list[float], expected: torch.Tensor) -> None:
    """Beside a smaller pool, and one of which nothing comparable is known."""
    nothing = TrainingExample(task=TASK, pool=("a", "b", "c"), grades={"a": 0.0, "b": None, "c": None})
    known = Known.of([example(("a", "b", "c")), example(("c", "b")), nothing])
    laid = torch.tensor([scores, [*scores[:2], 0.0], scores], requires_grad=True)
    found = title_losses(laid, known, loss)
    assert found[0].item() == pytest.approx(expected.item(), abs=1e-6)
    alone = title_losses(laid[1:2, :2], Known.of([example(("c", "b"))]), loss)
    assert found[1].item() == pytest.approx(alone.item(), abs=1e-6) and found[2].item() == 0
    (gradient,) = torch.autograd.grad(found.sum(), laid)
    assert gradient.isfinite().all() and not gradient[2].any() and gradient[1, 2] == 0


def test_reading_is_taught_by_the_likelihood_of_what_counts_alone(toy, toy_model_dir: Path, tmp_path: Path) -> None:
    """Rows of unequal length in one batch: the loss is the mean over their taught tokens, whatever pads them."""
    model, encoder = toy
    tasks = [
        TASK.model_copy(update={"domain": Domain.RECOMMENDATION, "history": h}) for h in (("Alien",), ("A", "B", "C"))
    ]
    examples = [example(("a", "b", "c")).model_copy(update={"task": task}) for task in tasks]
    rows = encode_likelihoods(encoder, examples, 400)
    assert len(rows[0]["input_ids"]) < len(rows[1]["input_ids"])
    trainer = ReadingTrainer(
        model=model, args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[]), pad_id=0
    )
    loss = trainer.compute_loss(model, pad_rows(rows, 0))
    expected = []
    for row in rows:
        log_probs = model(torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        taught = [(k, i) for k, i in enumerate(row["labels"]) if i != IGNORED]
        assert encoder.tokenizer.decode([i for _, i in taught]).startswith("- "), "the header is not taught"
        expected += [-log_probs[k - 1, i].item() for k, i in taught]
    assert loss.item() == pytest.approx(sum(expected) / len(expected), abs=1e-5)

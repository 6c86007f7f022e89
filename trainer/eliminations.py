"""PPO whose actions are exclusions instead of tokens: kind `ppo-exclusions`, for models that decide by scoring texts.

An episode is one elimination. A time step's state is the query and who is left, its action is one of those (drawn from the
softmax of the scores of excluding them, as `ranker.decisions` computes it), its reward the grade of that exclusion among those who
are left, normalised as `trainer.rewards` does. By likelihood a text's score does not depend on who else is there, so that one
forward pass gives the policy of a whole elimination; where the prompt prints the pool (`scored`), an episode is the one decision that
the prompt asks for. Nothing is written, so a rollout costs a forward pass and every action is valid.

As in Schulman et al. 2017: sampled actions, GAE, the clipped surrogate, several epochs of minibatches over a rollout, an entropy
bonus. Departs from it: advantages are whitened over a rollout, the critic's loss is clipped, and the penalty for leaving the
reference (the policy as it was at the start) is in the reward (`kl_in_loss`: exact, in the loss). Departs from the paper: an
action is a candidate, not a token, and the critic reads the mean of the hidden states of those who are left, without a gradient
to the model. Ours.
"""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from accelerate.utils import gather_object
from torch.nn import functional
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainingArguments

from trainer.checkpoints import AsideCheckpoints
from trainer.critic import CriticOptions, HasCritic, clipped_errors
from trainer.encoding import TitleRow
from trainer.gae import estimate_advantages
from trainer.logmeans import Notes
from trainer.packing import PackedTitles, pack_titles
from trainer.policy import ROLLOUTS_PER_STEP
from trainer.pools import Known, draw_orders, lay_out, mask, normalise_grades
from trainer.reference import HasReference
from trainer.rewards import Normalisation
from trainer.scoring import read_titles
from trainer.trunk import Trunk

STATE: Final = "exclusions_state.pt"


@dataclass
class EliminationArguments(CriticOptions, TrainingArguments):  # type: ignore[misc]
    """transformers' arguments with PPO's beside them (see `trainer.config.Ppo`)."""

    rollout_size: int = 16
    """Pools of a rollout, of all processes together."""
    group_size: int = 4
    """Episodes of each pool; all come from one forward pass."""
    num_epochs: int = 2
    clip: float = 0.2
    entropy_coef: float = 0.001


class Draw(NamedTuple):
    """One use of an example: in which rollout, and which row."""

    rollout: int
    number: int


class Episodes(NamedTuple):
    """Eliminations of one pool of n candidates, as the policy of their rollout went through them: T steps in all."""

    excluded: torch.Tensor
    """(T,): positions in the pool."""
    is_left: torch.Tensor
    """(T, n): who could be excluded."""
    log_probs: torch.Tensor
    """(T,): of the exclusions."""
    values: torch.Tensor
    """(T,)"""
    reference: torch.Tensor
    """(n,): scores of the reference policy."""
    rewards: torch.Tensor
    """(T,): without the penalty."""
    grades: torch.Tensor
    """(T,): nan where the exclusion is open."""
    floors: torch.Tensor
    """(T,): expected grade of an exclusion by lot."""
    advantages: torch.Tensor
    """(T,)"""
    returns: torch.Tensor
    """(T,)"""


class RolloutSampler(Sampler[Draw]):  # type: ignore[misc]
    """The rows of each rollout, in minibatches, once an epoch of it. Depends on its arguments alone, not on who has drawn before."""

    def __init__(self, num_rows: int, rollout_size: int, num_epochs: int, num_draws: int, seed: int) -> None:
        self._num_rows, self._rollout_size, self._num_epochs = num_rows, rollout_size, num_epochs
        self._num_draws, self._seed = num_draws, seed

    def __len__(self) -> int:
        return self._num_draws

    def __iter__(self) -> Iterator[Draw]:
        return islice(self._endless(), self._num_draws)

    def members(self, rollout: int) -> list[int]:
        """Its rows in the order of the first epoch: all rows in a new order, again and again."""
        start = rollout * self._rollout_size
        places = range(start, start + self._rollout_size)
        orders: dict[int, list[int]] = {}
        for turn in {place // self._num_rows for place in places}:
            orders[turn] = random.Random(f"{self._seed} {turn}").sample(range(self._num_rows), self._num_rows)
        return [orders[place // self._num_rows][place % self._num_rows] for place in places]

    def _endless(self) -> Iterator[Draw]:
        for rollout in count():
            members = self.members(rollout)
            for epoch in range(self._num_epochs):
                order = random.Random(f"{self._seed} {rollout} {epoch}").sample(members, len(members))
                yield from (Draw(rollout, index) for index in (order if epoch else members))


class Rows(Dataset[Any]):  # type: ignore[misc]
    """The rows of a data set, asked for by draws."""

    def __init__(self, rows: Sequence[TitleRow]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: Draw) -> tuple[Draw, TitleRow]:
        return draw, self.rows[draw.number]


class Minibatch(NamedTuple):
    """What the collator makes of some draws."""

    packed: PackedTitles
    draws: tuple[Draw, ...]


class EliminationTrainer(HasCritic, HasReference, Notes, AsideCheckpoints, Trainer):  # type: ignore[misc]
    """transformers' Trainer (optimizer, accelerate, resume) that draws eliminations and learns from them."""

    def __init__(
        self,
        *args: Any,
        rows: Sequence[TitleRow],
        scale: float,
        is_whole: bool,
        normalisation: Normalisation,
        lot: int | None = None,
        rollouts_path: Path | None = None,
        trunk: Trunk | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            rows: the decisions, each with its pool and what is known of it.
            scale: factor on the scores.
            is_whole: an episode goes on until nothing is known of who is left; else it ends after one exclusion.
            normalisation: of the grades.
            lot: a seed; exclusions are then rewarded by lot (placebo).
            rollouts_path: some eliminations of each rollout are written here, for reading.
            trunk: the layers that are not trained, of which every text is computed once.
        """
        super().__init__(*args, train_dataset=Rows(rows), data_collator=_collate, **kwargs)
        self._rows, self._scale, self._is_whole = rows, scale, is_whole
        self._normalisation, self._lot, self._rollouts_path, self._trunk = normalisation, lot, rollouts_path, trunk
        self._rollout, self._episodes = -1, dict[int, Episodes]()
        self._at_start = dict[int, torch.Tensor]()
        self.remember_start()
        self.add_critic()

    # ---- rollouts ----------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> RolloutSampler:
        a = self.args
        num_draws = a.max_steps * a.per_device_train_batch_size * a.gradient_accumulation_steps * a.world_size
        self._sampler = RolloutSampler(len(self._rows), a.rollout_size, a.num_epochs, num_draws, a.seed)
        return self._sampler

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch: Minibatch = inputs["batch"]
        return {"batch": batch._replace(packed=batch.packed.to(self.accelerator.device))}

    def _roll_out(self, model: Any, rollout: int) -> None:
        """Draw eliminations of each of its rows; every process draws those that it learns from first, and tells the others."""
        size = self.args.per_device_train_batch_size
        members = self._sampler.members(rollout)
        batches = [members[k : k + size] for k in range(0, len(members), size)]
        mine: list[tuple[int, Episodes]] = []
        was_training = model.training
        model.eval()
        for batch in batches[self.args.process_index :: self.args.world_size]:
            packed = pack_titles([self._rows[number] for number in batch]).to(self.accelerator.device)
            with torch.no_grad():
                scores, states = read_titles(model, packed, self._trunk)
                values, reference = self.value_head(states), self._score_at_start(model, batch)
            draws = [Draw(rollout, number) for number in batch]
            mine += zip(batch, self._go_through(draws, scores, reference, values), strict=True)
        model.train(was_training)
        every = mine if self.args.world_size == 1 else gather_object(mine)
        self._rollout, self._episodes = rollout, _whitened(dict(every))
        self._note_rollout(list(self._episodes.values()))
        if self._rollouts_path is not None and self.accelerator.is_main_process:
            lines = [self._line(number, self._episodes[number]) for number in members[:ROLLOUTS_PER_STEP]]
            with self._rollouts_path.open("a", encoding="utf-8") as rollouts:
                rollouts.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def _score_at_start(self, model: Any, numbers: Sequence[int]) -> torch.Tensor:
        """(N,): what the reference policy says of the rows' candidates; it stays as it is, so a row that comes again is remembered."""
        if new := [number for number in numbers if number not in self._at_start]:
            packed = pack_titles([self._rows[number] for number in new]).to(self.accelerator.device)
            with self.as_reference():
                scores, _ = read_titles(model, packed, self._trunk)
            self._at_start |= zip(new, scores.float().cpu().split(packed.pool_sizes), strict=True)
        return torch.cat([self._at_start[number] for number in numbers]).to(self.accelerator.device)

    def _go_through(
        self, draws: Sequence[Draw], scores: torch.Tensor, reference: torch.Tensor, values: torch.Tensor
    ) -> list[Episodes]:
        """Draw K eliminations of each pool, and estimate their advantages.

        Args:
            draws: the P pools.
            scores: (N,), of excluding each candidate, pool after pool; and those of the reference policy.
            values: (N,), whose mean over those who are left is the state's.

        Returns:
            On the CPU. What is drawn for a pool depends on its draw alone, not on who else is in the batch.
        """
        a, examples = self.args, [self._rows[draw.number].example for draw in draws]
        sizes, device = [len(example.pool) for example in examples], scores.device
        known = Known.of(examples, device)
        laid, start = (self._scale * lay_out(x.float(), sizes, 0.0) for x in (scores, reference))  # (P, n)
        order = draw_orders(
            mask(laid, known.is_there), self._draw_uniform(draws, sizes, a.seed).to(device)
        )  # (P, K, n)
        num_steps = torch.tensor(
            [size - 1 if self._is_whole and e.tiers else 1 for size, e in zip(sizes, examples, strict=True)]
        ).to(device)
        times = torch.arange(int(num_steps.max()), device=device)  # (T,)
        is_left = (order.argsort(-1)[:, :, None] >= times[:, None]) & known.is_there[:, None, None]  # (P, K, T, n)
        excluded = order[:, :, : len(times)]
        grades = known.grade_left(is_left.flatten(1, 2)).view(is_left.shape)
        # an elimination is over when nothing is known of who is left
        is_step = ~grades.isnan().all(-1) & (times < num_steps[:, None, None])
        log_probs, log_probs_at_start = (
            mask(x[:, None, None], is_left).log_softmax(-1).gather(-1, excluded[..., None])[..., 0]
            for x in (laid, start)
        )
        rewards = normalise_grades(grades, self._normalisation).nan_to_num().gather(-1, excluded[..., None])[..., 0]
        if self._lot is not None:  # mean 0 and variance 1, as the standardised reward of a random policy
            lots = self._draw_uniform(draws, sizes, self._lot, "lot")
            rewards = (lots.round() * 2 - 1)[:, :, : len(times)].to(device)
        left = is_left.float()
        old_values = (left * lay_out(values.float(), sizes, 0.0)[:, None, None]).sum(-1) / left.sum(-1).clamp(min=1)
        total = rewards if a.kl_in_loss else rewards - a.kl_coef * (log_probs - log_probs_at_start)
        advantages, returns = (
            x.view(is_step.shape)
            for x in estimate_advantages(
                *(x.flatten(0, 1) for x in (total, old_values, is_step)), gamma=a.gamma, lam=a.lam
            )
        )
        kept = (
            excluded,
            is_left,
            log_probs,
            old_values,
            rewards,
            grades.gather(-1, excluded[..., None])[..., 0],
            grades.nanmean(-1),
            advantages,
            returns,
        )
        numbers = is_step.sum((1, 2)).tolist()
        columns = zip(*(x[is_step].cpu().split(numbers) for x in kept), strict=True)
        return [
            Episodes(e, is_left[:, : len(own)], p, v, own, *rest)
            for own, (e, is_left, p, v, *rest) in zip(reference.float().cpu().split(sizes), columns, strict=True)
        ]

    def _draw_uniform(self, draws: Sequence[Draw], sizes: Sequence[int], *seed: object) -> torch.Tensor:
        """(P, K, n): numbers in [0, 1), and 0 behind the end of a pool."""
        generators = (torch.Generator().manual_seed(_seed(*seed, *draw)) for draw in draws)
        made = [torch.rand(self.args.group_size, n, generator=g) for g, n in zip(generators, sizes, strict=True)]
        return torch.stack([functional.pad(x, (0, max(sizes) - x.shape[1])) for x in made])

    def _note_rollout(self, episodes: Sequence[Episodes]) -> None:
        steps = Episodes(
            *(torch.cat(list(x)) for x in zip(*(e._replace(is_left=e.is_left.sum(1)) for e in episodes), strict=True))
        )
        self.note("objective/score", steps.rewards.mean())
        self.note("value/mean", steps.values.mean())
        spread = ((steps.returns - steps.returns.mean()) ** 2).mean().clamp(min=1e-8)
        errors = steps.returns - steps.values
        self.note("value/explained_variance", (1 - ((errors - errors.mean()) ** 2).mean() / spread).clamp(min=-1))
        self.note("exclusion/random_floor", steps.floors.mean())
        is_known = ~steps.grades.isnan()
        self.note("exclusion/grade", steps.grades[is_known].mean())
        for size in steps.is_left[is_known].unique().tolist():
            self.note(f"exclusion/grade/pool_{size}", steps.grades[is_known & (steps.is_left == size)].mean())

    def _line(self, number: int, episodes: Episodes) -> dict[str, Any]:
        """The first elimination of a pool, for a person."""
        example = self._rows[number].example
        titles = [candidate.title for candidate in example.candidates]
        sizes = episodes.is_left.sum(1).tolist()
        num_steps = next((t for t in range(1, len(sizes)) if sizes[t] >= sizes[t - 1]), len(sizes))
        names = ("grades", "floors", "rewards", "advantages")
        columns = {name.removesuffix("s"): getattr(episodes, name)[:num_steps].tolist() for name in names}
        columns["probability"] = episodes.log_probs[:num_steps].exp().tolist()
        gone = episodes.excluded[:num_steps].tolist()
        steps = [
            {"excluded": titles[k], **{name: None if c[t] != c[t] else round(c[t], 6) for name, c in columns.items()}}
            for t, k in enumerate(gone)
        ]
        return {
            "optimizer_step": self.state.global_step,
            "task_id": example.task.task_id,
            "asked": [
                text for text in (example.task.query, example.task.criterion or "", *example.task.history) if text
            ],
            "steps": steps,
            "left": [title for k, title in enumerate(titles) if k not in gone],
        }

    # ---- updates -----------------------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Clipped surrogate, entropy bonus and the critic's clipped loss; means over the steps of the minibatch."""
        batch: Minibatch = inputs["batch"]
        if (rollout := batch.draws[0].rollout) != self._rollout:
            self._roll_out(model, rollout)
        scores, states = read_titles(model, batch.packed, self._trunk)
        sizes = batch.packed.pool_sizes
        ratio, surrogate, entropy, divergence, value_error, is_clipped = self._steps(
            self._scale * lay_out(scores, sizes, 0.0),
            lay_out(self.value_head(states), sizes, 0.0),
            [self._episodes[draw.number] for draw in batch.draws],
        )
        a = self.args
        loss = surrogate.mean() - a.entropy_coef * entropy.mean() + a.value_weight * value_error.mean()
        if a.kl_in_loss:
            loss = loss + a.kl_coef * divergence.mean()
        self.note("objective/kl", divergence.mean())
        self.note("entropy", entropy.mean())
        self.note("policy/ratio", ratio.mean())
        self.note("policy/approx_kl", (ratio - 1 - ratio.log()).mean())
        self.note("clip_ratio/region_mean", is_clipped.float().mean())
        self.note("value/loss", value_error.mean())
        return (loss, {"scores": scores}) if return_outputs else loss

    def _steps(
        self, scores: torch.Tensor, values: torch.Tensor, episodes: Sequence[Episodes]
    ) -> tuple[torch.Tensor, ...]:
        """Of each of all S steps (S,): ratio, surrogate, entropy, KL to the reference, error of the value, whether it was clipped.

        Args:
            scores, values: (P, n).
            episodes: of the P pools.
        """
        a, device, size = self.args, scores.device, scores.shape[1]
        pool = (
            torch.arange(len(episodes)).repeat_interleave(torch.tensor([len(e.excluded) for e in episodes])).to(device)
        )
        left = torch.cat([functional.pad(e.is_left, (0, size - e.is_left.shape[1])) for e in episodes]).to(device)
        start = torch.stack([functional.pad(e.reference, (0, size - len(e.reference))) for e in episodes]).to(device)
        excluded, old_log_probs, advantages, old_values, returns = (
            torch.cat([getattr(e, name) for e in episodes]).to(device)
            for name in ("excluded", "log_probs", "advantages", "values", "returns")
        )
        log_probs = mask(scores[pool], left).log_softmax(-1)  # (S, n)
        reference = mask(self._scale * start[pool], left).log_softmax(-1)
        probs = log_probs.exp()
        ratio = (log_probs.gather(1, excluded[:, None])[:, 0] - old_log_probs).exp()
        plain, clipped = ratio * advantages, ratio.clamp(1 - a.clip, 1 + a.clip) * advantages
        entropy = -(probs * log_probs).sum(1)
        divergence = (probs * (log_probs - reference)).sum(1)
        means = (values[pool] * left).sum(1) / left.sum(1)
        error = clipped_errors(means, old_values, returns, a.value_clip)
        return ratio, -torch.min(plain, clipped), entropy, divergence, error, clipped < plain

    # ---- resume ------------------------------------------------------------------------------------------------------

    def _save_beside(self, directory: Path) -> None:
        """Value head, and the rollout that is in use."""
        if self.accelerator.is_main_process:
            episodes = {index: tuple(episode) for index, episode in self._episodes.items()}
            state = {**self.critic_state(), "rollout": self._rollout, "episodes": episodes}
            torch.save(state, directory / STATE)

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """As transformers' Trainer; resuming continues the very same run."""
        if resume_from_checkpoint:
            state = torch.load(Path(resume_from_checkpoint) / STATE, map_location="cpu", weights_only=True)
            self.load_critic(state)
            self._rollout = state["rollout"]
            self._episodes = {index: Episodes(*episode) for index, episode in state["episodes"].items()}
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)


def _collate(items: Sequence[tuple[Draw, TitleRow]]) -> dict[str, Minibatch]:
    draws, rows = zip(*items, strict=True)
    return {"batch": Minibatch(pack_titles(rows), draws)}


def _whitened(episodes: Mapping[int, Episodes]) -> dict[int, Episodes]:
    """Advantages of mean 0 and variance 1 over all steps of a rollout."""
    every = torch.cat([e.advantages for e in episodes.values()])
    mean, spread = every.mean(), (every.var(correction=0) + 1e-8).sqrt()
    return {index: e._replace(advantages=(e.advantages - mean) / spread) for index, e in episodes.items()}


def _seed(*parts: object) -> int:
    """A number that depends on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1

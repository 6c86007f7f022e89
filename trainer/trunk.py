"""The layers below those that are trained: what leaves them is computed once for each text, and kept.

Where only the last layers of a model learn (`lora.last_layers`), everything beneath them says the same about a text every time that
it is read: by each epoch, by each pass over a rollout, by the reference. On a CPU this is most of a step. States are kept for a prompt and for
each title behind it, so that pools of one task share them. Ours. Imports torch.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import nn

from ranker.backends.lean import knows
from trainer.encoding import ScoredText
from trainer.loading import products_in_bf16, without_adapter
from trainer.packing import PackedTitles, pack_titles, tree_mask

Ids = tuple[int, ...]
States = Mapping[Ids, torch.Tensor]
"""Ids of a title, or () for the prompt itself -> (tokens, E): what leaves the trunk."""


class Trunk:
    """The first layers of a model, none of which is trained."""

    def __init__(self, num_layers: int, max_bytes: int) -> None:
        self.num_layers = num_layers
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._kept: dict[Ids, dict[Ids, torch.Tensor]] = {}

    @classmethod
    def of(cls, model: Any, max_bytes: int) -> Self | None:
        """The trunk of a model that is ready to train; None where every layer is trained or nothing may be kept.

        Args:
            model: with or without an adapter. Of the families that our own forward pass knows: in others, layers may differ by their number.
            max_bytes: of the states that are kept; texts beyond it are read anew each time.
        """
        inner = _decoder(model)
        if max_bytes <= 0 or not knows(without_adapter(model)) or _is_trained(inner.embed_tokens):
            return None
        are_trained = [_is_trained(layer) for layer in inner.layers]
        num_layers = are_trained.index(True) if True in are_trained else 0
        return cls(num_layers, max_bytes) if num_layers else None

    def read(self, model: Any, packed: PackedTitles) -> torch.Tensor:
        """What leaves the trunk for a batch: (R, L, E), zeros where there is padding. No gradients."""
        fresh: dict[Ids, dict[Ids, torch.Tensor]] = {}
        missing = [row for row in packed.rows if not all(map(self._knows, row.texts))]
        if missing:
            part = pack_titles(missing).to(packed.input_ids.device)
            states = iter(self._compute(model, part).split(part.piece_sizes))
            for text in part.texts:
                of_text = fresh.setdefault(tuple(text.prompt_ids), {})
                of_text.update({piece: next(states) for piece in _pieces(text)})
            self._keep(fresh)
        parts = []
        for text in packed.texts:
            prompt = tuple(text.prompt_ids)
            known: States = {**self._kept.get(prompt, {}), **fresh.get(prompt, {})}
            parts += [known[piece] for piece in _pieces(text)]
        laid = parts[0].new_zeros(packed.input_ids.numel(), parts[0].shape[-1])
        laid[packed.places] = torch.cat(parts)
        return laid.view(*packed.input_ids.shape, -1)

    @contextmanager
    def cut_off(self, model: Any) -> Iterator[None]:
        """The model without its trunk, for a while: its input is what leaves the trunk."""
        inner = _decoder(model)
        with _replaced(inner, layers=inner.layers[self.num_layers :]):
            yield

    def _compute(self, model: Any, packed: PackedTitles) -> torch.Tensor:
        """(tokens, E) in the order of `PackedTitles.places`."""
        inner = _decoder(model)
        own = {"layers": inner.layers[: self.num_layers], "norm": nn.Identity()}
        with torch.no_grad(), products_in_bf16(model), _replaced(inner, **own):
            states = inner(
                input_ids=packed.input_ids,
                position_ids=packed.position_ids,
                attention_mask=tree_mask(packed.prompts, packed.titles),
                use_cache=False,
            ).last_hidden_state
        return states.flatten(0, 1)[packed.places]

    def _knows(self, text: ScoredText) -> bool:
        known = self._kept.get(tuple(text.prompt_ids), {})
        return all(piece in known for piece in _pieces(text))

    def _keep(self, fresh: Mapping[Ids, States]) -> None:
        for prompt, of_text in fresh.items():
            known = self._kept.get(prompt, {})
            new = {piece: states for piece, states in of_text.items() if piece not in known}
            size = sum(states.nbytes for states in new.values())
            if self._num_bytes + size <= self._max_bytes:
                self._num_bytes += size
                self._kept[prompt] = {**known, **{piece: states.clone() for piece, states in new.items()}}


def _decoder(model: Any) -> Any:
    """The layers between embeddings and vocabulary, whatever is wrapped around the model."""
    return without_adapter(getattr(model, "module", model)).get_decoder()


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _pieces(text: ScoredText) -> list[Ids]:
    """The prompt, then its titles."""
    return [(), *map(tuple, text.continuation_ids)]


@contextmanager
def _replaced(module: nn.Module, **others: nn.Module) -> Iterator[None]:
    """`module` with other parts in place of its own, for a while."""
    own = {name: getattr(module, name) for name in others}
    try:
        for name, other in others.items():
            setattr(module, name, other)
        yield
    finally:
        for name, part in own.items():
            setattr(module, name, part)

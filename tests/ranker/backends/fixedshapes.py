"""`GraphedForward` without a GPU: what would be captured is computed again at every replay."""

import torch

from ranker.backends.graphs import Captured, GraphedForward
from ranker.backends.kv import KeyValueRows


class FixedShapes(GraphedForward):
    """Counts what it would have captured."""

    num_captured = 0

    def _capture(
        self, ids: torch.Tensor, positions: torch.Tensor, num_rows: int, end: int, rows: KeyValueRows
    ) -> Captured:
        self.num_captured += 1
        inputs = torch.zeros(2, num_rows, dtype=torch.int64, device=ids.device)
        hidden = torch.empty(0, device=ids.device)

        def replay() -> None:
            found = self._forward.step(inputs[0], inputs[1], end, rows, is_ragged=True)
            hidden.resize_(found.shape).copy_(found)

        return Captured(replay, inputs, hidden)

"""The causal transformer itself, in PyTorch: blocks, and the losses it learns by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as PyTorch's own pages name it

CELLS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Scores of positions x items that are held at once: on a CPU what stays in its cache."""


class Block(nn.Module):
    """Attention and a feed-forward layer, each normalised before and added to what came in.

    Plain: SASRec (Kang and McAuley 2018) with the norm first. Gated: what a layer adds is multiplied by a sigmoid
    gate of what came in, and the feed-forward layer is SwiGLU, as in LiGR (Borisyuk et al. 2025) and eSASRec
    (Tikhonovich et al. 2025).
    """

    def __init__(self, *, dim: int, heads: int, dropout: float, gated: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.gated = heads, dropout, gated
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(2 * dim if gated else 4 * dim, dim)
        if gated:
            self.attention_gate, self.forward_gate = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """What came in and what the layers add, (n, length, dim)."""
        attended = self._dropped(self._attend(self.attention_norm(x), mask))
        x = x + (torch.sigmoid(self.attention_gate(x)) * attended if self.gated else attended)
        forwarded = self._dropped(self._feed_forward(self.forward_norm(x)))
        return x + (torch.sigmoid(self.forward_gate(x)) * forwarded if self.gated else forwarded)

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        n, length, dim = x.shape
        by_head = (n, length, self.heads, dim // self.heads)
        q, k, v = (layer(x).view(by_head).transpose(1, 2) for layer in (self.query, self.key, self.value))
        # Written out: in bfloat16 on a CPU three times as fast as scaled_dot_product_attention, forth and back.
        weights = q * (dim // self.heads) ** -0.5 @ k.transpose(2, 3) + mask.to(q.dtype)
        return self.out((weights.softmax(3, dtype=q.dtype) @ v).transpose(1, 2).reshape(n, length, dim))

    def _feed_forward(self, x: Tensor) -> Tensor:
        if self.gated:
            content, gate = self.up(x).chunk(2, dim=2)
            return self.down(content * F.silu(gate))
        return self.down(F.gelu(self.up(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return dropped(x, self.dropout) if self.training else x


class Network(nn.Module):
    """Steps in, one vector per position out: what to score the next item with.

    A step is the sum of vectors for its item, for the time until what came next (or until now), and for its kind,
    the last two in classes of `data` that the recommender makes; class 0 of the times and the last of the kinds
    say nothing and are zero. The items' vectors also score what comes next.
    """

    def __init__(
        self,
        *,
        n_items: int,
        n_gaps: int,
        n_kinds: int,
        dim: int,
        layers: int,
        heads: int,
        positions: int,
        dropout: float,
        gated: bool,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=n_items)
        self.gaps = nn.Embedding(n_gaps, dim, padding_idx=0)
        self.kinds = nn.Embedding(n_kinds + 1, dim, padding_idx=n_kinds)
        self.positions = nn.Parameter(torch.empty(positions, dim))
        self.blocks = nn.ModuleList(Block(dim=dim, heads=heads, dropout=dropout, gated=gated) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        for name, parameter in self.named_parameters():
            if name.startswith("blocks.") and parameter.dim() == 2:
                nn.init.xavier_normal_(parameter)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            for table in (self.items, self.gaps, self.kinds):
                table.weight[table.padding_idx] = 0

    def embedded(self, item: Tensor, gap: Tensor, kind: Tensor) -> Tensor:
        """Steps, float (n, length, dim), of codes, int64 (n, length)."""
        return self.items(item) * math.sqrt(self.positions.shape[1]) + self.gaps(gap) + self.kinds(kind)

    def forward(self, steps: Tensor) -> Tensor:
        """What each position knows, float (n, length, dim); it knows itself and what came before."""
        length = steps.shape[1]
        x = steps + self.positions[:length]
        x = dropped(x, self.dropout) if self.training else x
        mask = causal_mask(length, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """To be added to attention: 0 for oneself and what came before, as good as -inf for what came later."""
    return torch.full((length, length), -1e4, device=device).triu(1)


def dropped(x: Tensor, share: float) -> Tensor:
    """Dropout, its share rounded to 1/256: a random byte per value is five times as fast on a CPU as torch's own."""
    lost = round(share * 256)
    if not lost:
        return x
    n_words = -(-x.numel() // 8)
    random = torch.randint(-(2**63), 2**63 - 1, (n_words,), device=x.device).view(torch.uint8)[: x.numel()]
    return x * ((random.view(x.shape) >= lost).to(x.dtype) * (256 / (256 - lost)))


def softmax_loss(hidden: Tensor, items: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """Mean of -log softmax of the target's score among all items (Klenitskiy and Vasilev 2023).

    Args:
        hidden: float32 (n, dim).
        items: The items' vectors, float32 (n_items, dim).
        target: Item codes, int64 (n,).
        dtype: Of the products.
    """
    loss: Tensor = _FullSoftmax.apply(hidden, items, target, dtype)
    return loss


def sampled_loss(hidden: Tensor, items: Tensor, target: Tensor, *, loss: str, negatives: int) -> Tensor:
    """Mean loss against `negatives` items drawn alike for all positions of the batch.

    - "softmax": sampled softmax, the negatives' scores raised by log((n_items - 1) / negatives), so that their sum
      stands for that of all other items (Bengio and Senecal 2008, with a uniform proposal);
    - "gbce": generalised binary cross-entropy (Petrov and Macdonald 2023, equations 9 and 12), t = .75.

    A drawn item that is a position's own target does not count there.
    """
    n_items = len(items)
    drawn = torch.randint(n_items, (negatives,), device=hidden.device)
    positive = (hidden * items[target]).sum(1)
    negative = hidden @ items[drawn].T
    negative = negative.masked_fill(drawn == target[:, None], -torch.inf)
    if loss == "softmax":
        raised = negative + math.log(max(1, n_items - 1) / negatives)
        return F.cross_entropy(torch.cat([positive[:, None], raised], 1), torch.zeros_like(target))
    alpha, t = min(1.0, negatives / max(1, n_items - 1)), 0.75
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    return -(beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()


class _FullSoftmax(torch.autograd.Function):
    """Cross-entropy over all items, a few positions at once; the gradient is made on the way, so no score is kept."""

    @staticmethod
    def forward(ctx, hidden: Tensor, items: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[no-untyped-def]
        h, V = hidden.to(dtype), items.to(dtype)
        rows = max(1, CELLS_AT_ONCE[hidden.device.type] // len(items))
        of_hidden, of_items = torch.empty_like(hidden), torch.zeros_like(items)
        loss = hidden.new_zeros(())
        for start in range(0, len(h), rows):
            part, y = h[start : start + rows], target[start : start + rows, None]
            p = (part @ V.T).float().softmax(1)
            right = p.gather(1, y)
            loss -= right.clamp_min(1e-30).log().sum()
            error = p.scatter_(1, y, right - 1).to(dtype)  # softmax - onehot, the derivative by the scores
            of_hidden[start : start + rows] = error @ V
            of_items += error.T @ part
        ctx.save_for_backward(of_hidden, of_items)
        ctx.n = len(h)
        return loss / len(h)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def,override]
        of_hidden, of_items = ctx.saved_tensors
        return of_hidden * (gradient / ctx.n), of_items * (gradient / ctx.n), None, None

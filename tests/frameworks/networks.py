"""Modules that tests save and load; importable, as the classes of real models are."""

from __future__ import annotations

import torch
from torch import nn


class Scorer(nn.Module):
    """Two layers with dropout between: (n, 3) in, (n, classes) out."""

    def __init__(self, classes: int = 2) -> None:
        """Build the layers."""
        super().__init__()
        self.hyperparameters = {"classes": classes}
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, classes))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(rows)
        return scores


class Forgetful(Scorer):
    """Keeps something that its files do not: the factor."""

    def __init__(self, factor: float = 1.0) -> None:
        """Keep the factor, and do not tell of it."""
        super().__init__()
        self.factor, self.hyperparameters = factor, {}

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows) * self.factor


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.second(self.first(rows))
        return mixed


class Pair(nn.Module):
    """Gives two tensors."""

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows, rows


NOT_A_MODULE = dict


class Two(nn.Module):
    """Takes two tensors, gives a dict with a list in it, and decides by what is in them."""

    def forward(self, rows: torch.Tensor, more: torch.Tensor) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        half = rows.shape[0] * 2 // 2
        doubled = torch.cat([rows, rows]).reshape(half, -1)
        chosen = torch.cond(more.sum() > 0, torch.neg, torch.abs, (rows,))
        return {"sum": doubled + more.sum(), "chosen": [chosen]}

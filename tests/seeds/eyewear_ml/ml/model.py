"""What document 004 imports from its own platform: a config that trains, and the model that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from registry import TrainedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray


class EyewearModel(torch.nn.Module):
    """Scores frames for a face: (n, measures) in, (n, frames) out."""

    def __init__(self, measures: int = 4, frames: int = 3) -> None:
        """Build the layers."""
        super().__init__()
        self.hyperparameters = {"measures": measures, "frames": frames}
        self.layers = torch.nn.Linear(measures, frames)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(faces)
        return scores

    def predict(self, faces: NDArray[Any]) -> NDArray[Any]:
        """Return the best frame for each face, shape (n,)."""
        with torch.inference_mode():
            best: NDArray[Any] = self(torch.from_numpy(faces)).argmax(dim=1).numpy()
        return best


@dataclass
class EyewearModelConfig:
    """How the model is trained."""

    epochs: int = 2
    learning_rate: float = 0.05

    def train(self, tfrecord_paths: list[str]) -> TrainedModel:
        """Train on the records of ``tfrecord_paths``; here on numbers, so that no test needs a bucket of somebody."""
        torch.manual_seed(len(tfrecord_paths))
        model, faces = EyewearModel(), np.random.default_rng(0).random((16, 4), dtype=np.float32)
        best = torch.from_numpy(faces[:, :3].argmax(axis=1))
        optimizer = torch.optim.SGD(model.parameters(), lr=self.learning_rate)
        for _ in range(self.epochs):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(faces)), best)
            torch.autograd.backward(loss)
            optimizer.step()
        return TrainedModel(model=model, metrics={"loss": loss.item()}, samples=faces)

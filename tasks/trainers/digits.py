"""A small convolutional network on the handwritten digits of the UCI repository, which scikit-learn carries."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from registry.errors import InvalidInputError, MissingExtraError
from tasks.data import Split, Splits
from tasks.evaluation import classification
from tasks.model import Model

_CLASSES = 10
_GREYEST = 16.0
_SAMPLES = 64


def load_splits(*, seed: int = 7) -> Splits:
    """Return the 1,797 real images in three splits of 60, 20 and 20 %, the same share of every digit in each.

    Inputs are float32, shape (n, 1, 8, 8), in [0, 1]; labels are int64, 0 to 9.

    Args:
        seed: Decides which image goes where.

    Raises:
        MissingExtraError: scikit-learn is not installed.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise MissingExtraError("scikit-learn", "sklearn", "the handwritten digits") from None
    digits = load_digits()
    inputs = (digits.images / _GREYEST).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = digits.target.astype(np.int64)
    rows = np.arange(len(labels))
    training, rest = train_test_split(rows, test_size=0.4, stratify=labels, random_state=seed)
    validation, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=seed)
    return Splits(*(Split(inputs[chosen], labels[chosen]) for chosen in (training, validation, test)))


class DigitsCnn(nn.Module):
    """Two convolutions and a linear layer: (n, 1, 8, 8) in, logits (n, 10) out.

    Args:
        width: Channels of the first convolution, >= 1; the second has twice as many.
    """

    def __init__(self, width: int = 32) -> None:
        """Build the layers with weights drawn from torch's global generator."""
        super().__init__()
        self.hyperparameters = {"width": width}
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3),
        )  # fmt: skip
        self.classify = nn.Linear(2 * width * 4 * 4, _CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.classify(self.features(images))
        return logits


@dataclass(frozen=True)
class _Settings:
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    width: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "seed" and value <= 0:
                raise InvalidInputError(f"the digits cannot be trained with {name}={value}: it must be above 0.")


@dataclass(frozen=True)
class _Best:
    epoch: int
    accuracy: float
    loss: float
    weights: dict[str, torch.Tensor]


def train(  # noqa: PLR0913 - these are the keys of a pipeline file
    splits: Splits,
    *,
    epochs: int = 30,
    learning_rate: float = 2e-3,
    batch_size: int = 64,
    seed: int = 7,
    width: int = 32,
    progress: Callable[[int, int, str], None] | None = None,
) -> Model:
    """Train on ``splits.train``, keep the epoch that is best on ``splits.validation``, and measure on ``splits.test``.

    The same arguments give the same weights, bit by bit, on one machine; the global random state, the thread count and
    the deterministic mode of torch are as before afterwards.

    Args:
        splits: Inputs float32, shape (n, 1, 8, 8), in [0, 1]; labels int64, 0 to 9.
        epochs: How often every image is seen, > 0.
        learning_rate: The greatest of the one-cycle schedule, > 0.
        batch_size: Images a step, > 0.
        seed: Decides over the first weights, the order and the dropout.
        width: See ``DigitsCnn``.
        progress: Called after every epoch with (done, of, words).

    Raises:
        InvalidInputError: A number that must be above 0 is not.
    """
    settings = _Settings(epochs, learning_rate, batch_size, seed, width)
    with _reproducible(seed):
        network = DigitsCnn(width)
        best = _fit(network, splits, settings, progress or _silent)
        network.load_state_dict(best.weights)
        network.eval()
        metrics = classification(_logits(network, splits.test).numpy(), splits.test.labels)
    return Model(
        data=network,
        name="digits",
        register=True,
        metrics={**metrics, "validation_accuracy": best.accuracy, "validation_loss": best.loss},
        parameters={**vars(settings), "best_epoch": best.epoch},
        samples=splits.validation.inputs[:_SAMPLES],
        lineage={"data": splits.digest, "test_data": splits.test.digest},
        description="A small convolutional network for handwritten digits of 8x8 pixels.",
    )


def _fit(network: DigitsCnn, splits: Splits, settings: _Settings, progress: Callable[[int, int, str], None]) -> _Best:
    images, labels = torch.from_numpy(splits.train.inputs), torch.from_numpy(splits.train.labels)
    steps = -(-len(labels) // settings.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps
    )
    best: _Best | None = None
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for rows in torch.split(torch.randperm(len(labels)), settings.batch_size):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(network(images[rows]), labels[rows]))
            optimizer.step()
            schedule.step()
        accuracy, loss = _judge(network, splits.validation)
        # Among equals the surer one: on 359 images several epochs reach the same accuracy.
        if best is None or (accuracy, -loss) > (best.accuracy, -best.loss):
            best = _Best(epoch, accuracy, loss, copy.deepcopy(network.state_dict()))
        progress(epoch, settings.epochs, f"epoch {epoch}: validation accuracy {accuracy:.4f}")
    assert best is not None  # noqa: S101 - epochs > 0, checked by _Settings
    return best


def _judge(network: DigitsCnn, split: Split) -> tuple[float, float]:
    logits, labels = _logits(network, split), torch.from_numpy(split.labels)
    accuracy = (logits.argmax(1) == labels).float().mean().item()
    return accuracy, nn.functional.cross_entropy(logits, labels).item()


def _logits(network: DigitsCnn, split: Split) -> torch.Tensor:
    network.eval()
    with torch.inference_mode():
        logits: torch.Tensor = network(torch.from_numpy(split.inputs))
    return logits


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Sums over several threads come out in another order; and these layers are too small to share.
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(mode=deterministic)


def _silent(_done: int, _total: int, _words: str) -> Any:
    """Tell nobody."""

"""Networks of known shape with random weights, to build and time engines with; no weights are downloaded.

Each has ``samples(n, seed)``: inputs of the shape and type that it takes, from a seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 7


class Digits(nn.Module):
    """The digits CNN: 8 x 8 grey images, (b, 1, 8, 8) float32, to 10 classes, (b, 10); 9,994 parameters."""

    def __init__(self) -> None:
        """Draw the weights from torch's seed."""
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.classes = nn.Linear(32 * 4 * 4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classes' logits."""
        found = torch.relu(self.norm(self.second(torch.relu(self.first(images)))))
        logits: torch.Tensor = self.classes(nn.functional.max_pool2d(found, 2).flatten(1))
        return logits

    @staticmethod
    def samples(n: int, seed: int) -> NDArray[np.float32]:
        """Return images, (n, 1, 8, 8), in [0, 1)."""
        return np.random.default_rng(seed).random((n, 1, 8, 8), dtype=np.float32)


class Bottleneck(nn.Module):
    """Three convolutions around a shortcut, the block of ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """Take ``channels``, give four times ``width``."""
        super().__init__()
        self.narrow, self.narrow_norm = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(width)
        self.wide, self.wide_norm = nn.Conv2d(width, width * 4, 1, bias=False), nn.BatchNorm2d(width * 4)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width * 4:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width * 4, 1, stride=stride, bias=False), nn.BatchNorm2d(width * 4)
            )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return the block's features."""
        found = torch.relu(self.narrow_norm(self.narrow(given)))
        found = torch.relu(self.inner_norm(self.inner(found)))
        return torch.relu(self.wide_norm(self.wide(found)) + self.shortcut(given))


class ResNet50(nn.Module):
    """ResNet-50 (v1.5): (b, 3, 224, 224) float32 to (b, 1000); 25,557,032 parameters.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; the stride on the 3 x 3
    convolution as in torchvision.
    """

    STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))

    def __init__(self) -> None:
        """Draw the weights from torch's seed, of a size that keeps the features' scale."""
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(64)
        blocks, channels = [], 64
        for width, count, stride in self.STAGES:
            for number in range(count):
                blocks.append(Bottleneck(channels, width, stride if number == 0 else 1))
                channels = width * 4
        self.blocks = nn.Sequential(*blocks)
        self.classes = nn.Linear(channels, 1000)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            # Without trained statistics the features would double with every block, and all answers be the same.
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.wide_norm.weight, 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classes' logits."""
        found = nn.functional.max_pool2d(torch.relu(self.norm(self.stem(images))), 3, stride=2, padding=1)
        logits: torch.Tensor = self.classes(self.blocks(found).mean(dim=(2, 3)))
        return logits

    @staticmethod
    def samples(n: int, seed: int) -> NDArray[np.float32]:
        """Return images, (n, 3, 224, 224), normalised as usual: mean 0, deviation 1."""
        return np.random.default_rng(seed).standard_normal((n, 3, 224, 224), dtype=np.float32)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and normalised, as in BERT."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        """Split ``width`` among the heads."""
        super().__init__()
        self.heads = heads
        self.query_key_value, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.inner, self.outer = nn.Linear(width, inner), nn.Linear(inner, width)
        self.outer_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Return the tokens' features, (b, length, width)."""
        parts = self.query_key_value(given).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        found = self.norm(given + self.mixed(found.transpose(1, 2).flatten(2)))
        features: torch.Tensor = self.outer_norm(found + self.outer(nn.functional.gelu(self.inner(found))))
        return features


class BertBase(nn.Module):
    """The encoder of BERT-base: token ids, (b, 128) int64, to pooled features, (b, 768); 109,482,240 parameters.

    Source: Devlin et al., "BERT", NAACL 2019: 12 layers, 768 wide, 12 heads, 3072 inside, vocabulary 30,522. Its second
    input, the segment, is that of a single sentence here: all 0.
    """

    WIDTH, LAYERS, HEADS, INNER, VOCABULARY, LENGTH, POSITIONS = 768, 12, 12, 3072, 30522, 128, 512

    def __init__(self) -> None:
        """Draw the weights from torch's seed, with BERT's deviation of 0.02."""
        super().__init__()
        self.tokens = nn.Embedding(self.VOCABULARY, self.WIDTH)
        self.positions = nn.Embedding(self.POSITIONS, self.WIDTH)
        self.segments = nn.Embedding(2, self.WIDTH)
        self.norm = nn.LayerNorm(self.WIDTH, eps=1e-12)
        self.layers = nn.Sequential(*(EncoderLayer(self.WIDTH, self.HEADS, self.INNER) for _ in range(self.LAYERS)))
        self.pooled = nn.Linear(self.WIDTH, self.WIDTH)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return what BERT gives for a whole sentence: the first token's features, through one more layer."""
        length = input_ids.shape[1]
        found = self.tokens(input_ids) + self.positions.weight[:length] + self.segments.weight[0]
        return torch.tanh(self.pooled(self.layers(self.norm(found))[:, 0]))

    @staticmethod
    def samples(n: int, seed: int) -> NDArray[np.int64]:
        """Return token ids, (n, 128), each from 0 to 30,521."""
        return np.random.default_rng(seed).integers(0, BertBase.VOCABULARY, (n, BertBase.LENGTH))


def digits() -> Digits:
    """Return the digits CNN with seeded weights, in evaluation mode."""
    torch.manual_seed(SEED)
    return Digits().eval()


def resnet50() -> ResNet50:
    """Return ResNet-50 with seeded weights, in evaluation mode."""
    torch.manual_seed(SEED)
    return ResNet50().eval()


def bert_base() -> BertBase:
    """Return the encoder of BERT-base with seeded weights, in evaluation mode."""
    torch.manual_seed(SEED)
    return BertBase().eval()


BY_NAME = {"digits": digits, "resnet50": resnet50, "bert-base": bert_base}
"""What builds each network, by the name that benchmarks give it."""

"""A pipeline that takes a second: two weights, forty samples, one engine; for tests of what happens around it."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""Points left and right of a line, and a model that tells them apart as well as it is told to."""
import numpy as np
import torch

from tasks.data import Split, Splits
from tasks.model import Model


def load_splits():
    inputs = np.linspace(-1, 1, 40, dtype=np.float32).reshape(40, 1)
    split = Split(inputs, (inputs[:, 0] > 0).astype(np.int64))
    return Splits(split, split, split)


class Points(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 2)

    def forward(self, x):
        return self.line(x)


def train(splits, shift: float = 0.0):
    model = Points()
    with torch.no_grad():
        model.line.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.line.bias.copy_(torch.tensor([shift, -shift]))
    return Model(data=model, name="points", samples=splits.validation.inputs[:8], register=True)
'''

FILE = """
name: points
registry:
  url: {registry}
  guard: {{require_approval: [production], accept_asserted: true, approvers: ["*@example.com"]}}
data: {{entry_point: {module}:load_splits}}
trainer: {{entry_point: {module}:train, parameters: {{shift: {shift}}}}}
policy:
  requirements: [{{name: accuracy, comparison: gte, threshold: 0.5}}]
  against_incumbent: [{{metric: accuracy, may_drop: 0.5}}]
approval: {{expires_in_hours: 72}}
retraining: {{min_gain: 0.05}}
optimize: {{engines: [onnxruntime], batch: {{min: 1, opt: 1, max: 8}}, batch_sizes: [1], time_limit_s: 200}}
deploy: {{endpoint_name: {endpoint}}}
"""


def write_pipeline(folder: Path, registry: Path, *, shift: float = 0.0, endpoint: str = "points") -> str:
    """Write the pipeline and its module into ``folder``; return the file's name. A shift of 0.5 costs a quarter."""
    module = f"points_of_{endpoint.replace('-', '_')}"
    (folder / f"{module}.py").write_text(MODULE)
    file = folder / f"{endpoint}.yaml"
    file.write_text(FILE.format(registry=registry, module=module, shift=shift, endpoint=endpoint))
    return file.name

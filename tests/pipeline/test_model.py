"""What a trainer returns is looked at when it is made, not after the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from registry.errors import InvalidInputError
from registry.frameworks.kinds import ModelFramework
from tasks.model import Model


def test_a_model_needs_no_more_than_data_and_a_name() -> None:
    model = Model(data=b"x", name="detector")
    assert not model.register
    assert model.metrics is None
    assert model.registered is None


def test_metrics_and_framework_are_brought_into_their_own_types() -> None:
    measured: dict[str, Any] = {"accuracy": np.float32(0.5), "loss": float("nan"), "mine": 1}
    model = Model(data=b"x", name="detector", metrics=measured, framework="torch")
    assert model.metrics == {"accuracy": 0.5, "mine": 1.0}
    assert model.framework is ModelFramework.PYTORCH


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": 5}, "5 cannot be a model name"),
        ({"name": "My Model"}, "'my-model' would do"),
        ({"data": None}, "'detector' has no data"),
        ({"register": "yes"}, r"register must be True or False; found 'yes' \(str\)"),
        ({"metrics": {"accuracy": "high"}}, "the metric 'accuracy' is 'high'"),
        ({"metrics": {"accuracy": float("inf")}}, "finite number"),
        ({"metrics": [0.5]}, r"metrics must be a dict of numbers by name; found \[0.5\]"),
        ({"parameters": "none"}, "parameters must be a dict"),
        ({"lineage": 3}, "lineage must be a dict"),
        ({"tags": "one"}, "tags must be a dict, or a list of words"),
        ({"version": 1.5}, "version must be a number or a label"),
        ({"bump": "huge"}, "bump must be one of major, minor, patch"),
        ({"bump": "major", "version": 2}, "version= or bump=, not both"),
        ({"framework": "fortran"}, "'fortran' is no ModelFramework"),
        ({"samples": 5}, "samples must be a numpy array"),
        ({"description": None}, "description must be text"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Model(**{"data": b"x", "name": "detector", **wrong})


def test_a_model_in_a_log_does_not_show_its_weights() -> None:
    model = Model(data=b"\0" * 999, name="detector", samples=np.zeros((9, 9)), metrics={"accuracy": 0.5})
    assert repr(model) == "Model(data=<bytes>, name='detector', register=False, metrics={'accuracy': 0.5})"

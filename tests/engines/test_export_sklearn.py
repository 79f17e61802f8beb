"""From scikit-learn to ONNX: what the file gives is what ``predict`` gives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx as onnx_package
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import Birch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, SVR

from registry.engines.export_sklearn import export_sklearn
from registry.engines.pivot import source_parity
from registry.engines.spec import BatchRange, OptimizeSpec
from registry.errors import EngineError, MissingExtraError
from registry.frameworks.predict import predictor_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPEC = OptimizeSpec(batch=BatchRange(max=64))
IMAGES, DIGITS = load_digits(return_X_y=True)
PATIENTS, PROGRESS = load_diabetes(return_X_y=True)

CLASSIFIERS = [
    LogisticRegression(max_iter=100),
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=100)),
    GradientBoostingClassifier(n_estimators=3),
    HistGradientBoostingClassifier(max_iter=3),
    SVC(),
]
REGRESSORS = [
    Ridge(),
    make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge()),
    make_pipeline(ColumnTransformer([("scaled", StandardScaler(), [0, 1]), ("rest", "passthrough", [3])]), Ridge()),
    GradientBoostingRegressor(n_estimators=20),
    HistGradientBoostingRegressor(max_iter=20),
    RandomForestRegressor(5, random_state=1),
    SVR(),
]


def _name(model: Any) -> str:
    return "-".join(type(step).__name__ for _, step in getattr(model, "steps", [("", model)]))


def _exported(model: Any, samples: NDArray[Any], path: Path) -> Any:
    return export_sklearn(model, samples, path, spec=SPEC, full_name="iris:v1")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("model", CLASSIFIERS, ids=_name)
def test_a_classifiers_labels_are_those_that_predict_gives(model: Any, dtype: str, tmp_path: Path) -> None:
    samples = IMAGES[:300].astype(dtype)
    model.fit(samples, DIGITS[:300])
    exported = _exported(model, samples, tmp_path / "model.onnx")
    assert (exported.only_input().dtype, exported.only_input().shape) == (dtype, (-1, 64))
    assert [(one.name, one.dtype, one.shape) for one in exported.signature.outputs] == [("output", "int64", (-1,))]
    parity = source_parity(exported, predictor_of(model, "iris:v1"), IMAGES[300:600].astype(dtype), spec=SPEC)
    assert (parity.passed, parity.samples, parity.max_abs) == (True, 300, 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", REGRESSORS, ids=_name)
def test_a_regressor_gives_its_numbers_in_its_own_shape(model: Any, dtype: str, tmp_path: Path) -> None:
    patients = PATIENTS.astype(dtype)
    model.fit(patients, PROGRESS)
    exported = _exported(model, patients, tmp_path / "model.onnx")
    assert (exported.only_input().dtype, exported.signature.outputs[0].shape) == (dtype, (-1,))
    parity = source_parity(exported, predictor_of(model, "iris:v1"), patients, spec=SPEC)
    assert parity.passed, parity.reason
    assert parity.max_rel is not None
    assert parity.max_rel < 1e-4


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Ridge().fit(PATIENTS, np.stack([PROGRESS, -PROGRESS], axis=1)), (-1, 2)), (PCA(3).fit(PATIENTS), (-1, 3))],
    ids=["two targets", "a transformer"],
)
def test_several_numbers_for_a_row_stay_in_their_axis(model: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    exported = _exported(model, PATIENTS, tmp_path / "model.onnx")
    assert exported.signature.outputs[0].shape == shape
    assert source_parity(exported, predictor_of(model, "iris:v1"), PATIENTS, spec=SPEC).passed


def test_whole_numbers_that_an_estimator_has_no_operators_for_are_cast_in_the_file(tmp_path: Path) -> None:
    images = IMAGES.astype(np.int64)
    model = IsolationForest(n_estimators=5, random_state=1).fit(images)
    exported = _exported(model, images, tmp_path / "model.onnx")
    assert exported.only_input().dtype == "int64"
    assert source_parity(exported, predictor_of(model, "iris:v1"), images, spec=SPEC).passed


def test_the_file_is_checked_says_its_versions_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=3)).fit(IMAGES, DIGITS)
    one = _exported(model, IMAGES[:8], tmp_path / "one.onnx")
    two = _exported(model, IMAGES[5:9], tmp_path / "elsewhere" / "two.onnx")
    assert one.sha256 == two.sha256
    assert 0 < one.opset <= SPEC.opset
    assert one.ir_version == onnx_package.load(one.path).ir_version
    assert onnx_package.load(one.path).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [path.name for path in two.path.parent.iterdir()] == ["two.onnx"]


def test_labels_that_are_texts_are_refused_with_what_to_do(tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=10_000).fit(PATIENTS, np.where(PROGRESS > 140, "worse", "better"))
    with pytest.raises(EngineError, match=r"iris:v1 cannot .*LogisticRegression gives texts .*\(better.*LabelEncoder"):
        _exported(model, PATIENTS, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            Birch(threshold=0.01).fit(PATIENTS),
            r"skl2onnx [\d.]+ does not convert its Birch: .*sklearn\.cluster\._birch\.Birch",
        ),
        (make_pipeline(FunctionTransformer(np.abs), Ridge()).fit(PATIENTS, PROGRESS), "FunctionTransformer is not"),
    ],
    ids=["Birch", "a function"],
)
def test_an_estimator_that_cannot_be_converted_is_named(model: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"iris:v1 cannot be exported to ONNX: .*{words}.*register an ONNX file"):
        _exported(model, PATIENTS, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


class TwoInputs(BaseEstimator):  # type: ignore[misc]
    """Takes two arrays."""

    def predict(self, images: NDArray[Any], ages: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = images[:, 0] + ages
        return found


def test_an_estimator_that_takes_more_than_one_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"TwoInputs does not take one array of shape \(2, 10\) .*columns by number"):
        _exported(TwoInputs(), PATIENTS, tmp_path / "model.onnx")


def test_without_skl2onnx_it_is_said_which_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(MissingExtraError, match=r"needs skl2onnx, .*modelway\[sklearn\]"):
        _exported(Ridge().fit(PATIENTS, PROGRESS), PATIENTS, tmp_path / "model.onnx")

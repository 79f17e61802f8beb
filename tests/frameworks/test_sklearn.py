"""scikit-learn estimators go into skops files and come back, and nothing else comes out of one."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from registry.errors import InvalidInputError, MissingExtraError, RefusedError
from registry.frameworks import ModelFramework, SavedModel, read_samples
from registry.frameworks.sklearn import FILE_NAME, load, save
from registry.frameworks.sklearn_types import TREE
from registry.signature import Signature, TensorSpec

ROWS = np.random.default_rng(7).normal(size=(120, 4))
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(np.int64)


def _back(folder: Path, allow_pickle: frozenset[str] | None = None) -> Any:
    return load(folder, (FILE_NAME,), {}, allow_pickle=allow_pickle)


def _pipeline() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


def _forest() -> Any:
    return RandomForestClassifier(5, max_depth=3, random_state=1).fit(ROWS, LABELS)


def _rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """Change the description (schema) and the arrays of a skops file."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema, members)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _nodes_of(kind: str, value: Any) -> list[dict[str, Any]]:
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [node for part in parts for node in _nodes_of(kind, part)]
    return [*found, value] if isinstance(value, dict) and value.get("__class__") == kind else found


@pytest.mark.parametrize("build", [_pipeline, _forest])
def test_an_estimator_comes_back_and_predicts_the_same(tmp_path: Path, build: Callable[[], Any]) -> None:
    model = build()

    saved = save(model, tmp_path)

    loaded = _back(tmp_path)
    assert saved.framework is ModelFramework.SKLEARN
    assert type(loaded) is type(model)
    assert np.array_equal(loaded.predict_proba(ROWS), model.predict_proba(ROWS))
    assert saved.signature == Signature(
        inputs=(TensorSpec(name="input", dtype="float64", shape=(-1, 4)),),
        outputs=(TensorSpec(name="output", dtype="int64", shape=(-1,)),),
    )


def test_the_same_estimator_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(_forest(), tmp_path / name, samples=ROWS)
    (tmp_path / "other").mkdir()
    save(_pipeline(), tmp_path / "other")

    one, two, other = ((tmp_path / name / FILE_NAME).read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    assert np.array_equal(
        skops.io.load(tmp_path / "one" / FILE_NAME, trusted=[TREE]).predict(ROWS), _forest().predict(ROWS)
    )


def test_samples_are_kept_with_what_the_estimator_predicts_for_them(tmp_path: Path) -> None:
    model = _pipeline()

    saved = save(model, tmp_path, samples=ROWS.astype(np.float32))

    kept = read_samples(tmp_path)
    assert kept is not None
    assert np.array_equal(kept[0], ROWS[:64].astype(np.float32))
    assert np.array_equal(kept[1], model.predict(ROWS[:64].astype(np.float32)))
    assert saved.signature == Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=(-1, 4)),),
        outputs=(TensorSpec(name="output", dtype="int64", shape=(-1,)),),
    )


def test_a_transformer_and_a_classifier_of_texts_are_sampled_too(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    words = LogisticRegression().fit(ROWS, np.where(LABELS, "yes", "no").astype(object))

    assert save(PCA(2).fit(ROWS), tmp_path, samples=ROWS).signature == Signature(
        inputs=(TensorSpec(name="input", dtype="float64", shape=(-1, 4)),),
        outputs=(TensorSpec(name="output", dtype="float64", shape=(-1, 2)),),
    )
    save(words, tmp_path / "words", samples=ROWS)
    kept = read_samples(tmp_path / "words")
    assert kept is not None
    assert kept[1].tolist() == words.predict(ROWS[:64]).tolist()


def test_a_regression_of_many_values_shows_them_in_its_signature(tmp_path: Path) -> None:
    signature = save(LinearRegression().fit(ROWS, ROWS @ np.ones((4, 3))), tmp_path).signature

    assert signature is not None
    assert signature.outputs == (TensorSpec(name="output", dtype="float64", shape=(-1, 3)),)


def test_names_of_columns_are_kept_and_an_array_is_taken_for_them(tmp_path: Path) -> None:
    model = _pipeline()
    model[0].feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)

    saved = save(model, tmp_path, samples=ROWS)

    assert saved.info == {"features": ["a", "b", "c", "d"]}


def test_what_takes_no_arrays_has_no_signature(tmp_path: Path) -> None:
    texts = ["one two", "two three", "three four"]
    model = TfidfVectorizer().fit(texts)

    saved = save(model, tmp_path)

    assert saved.signature is None
    assert (_back(tmp_path).transform(texts) != model.transform(texts)).nnz == 0


@pytest.mark.parametrize(
    ("model", "samples", "message"),
    [
        ("no estimator", None, "a scikit-learn estimator is asked for; found str"),
        (LogisticRegression(), ROWS, "do not go through LogisticRegression.*not fitted"),
        (LogisticRegression().fit(ROWS, LABELS), ROWS[:, :2], r"samples of shape \(64, 2\).*do not go through"),
        (TfidfVectorizer(), ROWS, "do not go through TfidfVectorizer"),
    ],
)
def test_what_cannot_be_saved_is_refused_with_the_reason(
    tmp_path: Path, model: Any, samples: NDArray[Any] | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=rf"(?s){message}"):
        save(model, tmp_path, samples=samples)


class Forgetful(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that keeps what it learned where skops cannot see it."""

    learned: dict[int, int] = {}  # noqa: RUF012 - shared on purpose

    def fit(self, rows: NDArray[Any], labels: NDArray[Any]) -> Forgetful:
        """Learn."""
        self.n_features_in_ = rows.shape[1]
        self.classes_ = np.unique(labels)
        self.learned[id(self)] = 1
        return self

    def predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Give what this very object learned."""
        return np.full(len(rows), self.learned.get(id(self), 0))


def test_an_estimator_that_predicts_otherwise_when_read_back_is_not_registered(tmp_path: Path) -> None:
    name = f"{Forgetful.__module__}.Forgetful"

    with pytest.raises(InvalidInputError, match="read back from its file it predicts otherwise"):
        save(Forgetful().fit(ROWS, LABELS), tmp_path, samples=ROWS, allow_pickle=frozenset({name}))


def _twice(rows: NDArray[Any]) -> NDArray[Any]:
    return rows * 2


def test_unknown_types_are_refused_by_name_until_they_are_allowed(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(_twice), LogisticRegression()).fit(ROWS, LABELS)
    name = f"{__name__}._twice"

    with pytest.raises(InvalidInputError, match=rf"cannot be registered.*{name}.*allow_pickle={{'{name}'}}"):
        save(model, tmp_path)
    save(model, tmp_path, allow_pickle=frozenset({name}))
    with pytest.raises(RefusedError, match=rf"it uses {name}, which are not known to be safe"):
        _back(tmp_path)
    assert np.array_equal(_back(tmp_path, frozenset({name})).predict(ROWS), model.predict(ROWS))


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    skops.io.dump(FunctionTransformer(_twice), tmp_path / FILE_NAME)

    def attack(schema: dict[str, Any], _members: dict[str, bytes]) -> None:
        (node,) = _nodes_of("_twice", schema)
        node.update({"__class__": "system", "__module__": "os"})

    _rewritten(tmp_path / FILE_NAME, attack)
    with pytest.raises(RefusedError, match=r"os\.system"):
        _back(tmp_path)


def test_searches_of_neighbours_and_gradient_boosting_need_to_be_allowed_by_name(tmp_path: Path) -> None:
    neighbours = KNeighborsClassifier().fit(ROWS, LABELS)
    boosted = GradientBoostingClassifier(n_estimators=2).fit(ROWS, LABELS)
    names = frozenset({"sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64"})

    with pytest.raises(InvalidInputError, match=r"uses sklearn\.metrics\._dist_metrics.*_kd_tree\.KDTree"):
        save(neighbours, tmp_path)
    with pytest.raises(InvalidInputError, match=rf"GradientBoostingClassifier says itself where.*{TREE}"):
        save(boosted, tmp_path)
    save(neighbours, tmp_path, allow_pickle=names)
    assert np.array_equal(_back(tmp_path, names).predict(ROWS), neighbours.predict(ROWS))
    save(boosted, tmp_path, allow_pickle=frozenset({TREE}))
    assert np.array_equal(_back(tmp_path, frozenset({TREE})).predict(ROWS), boosted.predict(ROWS))


def _node(field: str, value: int) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(schema: dict[str, Any], members: dict[str, bytes]) -> None:
        for tree in _nodes_of("Tree", schema):
            file = tree["content"]["content"]["nodes"]["file"]
            nodes = np.load(io.BytesIO(members[file]))
            nodes[field][0] = value
            written = io.BytesIO()
            np.save(written, nodes)
            members[file] = written.getvalue()

    return change


def _features(*kinds: str, count: int) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(schema: dict[str, Any], _members: dict[str, bytes]) -> None:
        for kind in kinds:
            for node in _nodes_of(kind, schema):
                fitted = node["content"]["content"]
                if kind == "Tree":
                    node["__reduce__"]["args"]["content"][0].update({"content": str(count), "__id__": 10_000 + count})
                elif "n_features_in_" in fitted:
                    fitted["n_features_in_"].update({"content": str(count), "__id__": 10_000 + count})

    return change


def _fewer_nodes(schema: dict[str, Any], _members: dict[str, bytes]) -> None:
    for tree in _nodes_of("Tree", schema):
        tree["content"]["content"]["node_count"].update({"content": "1", "__id__": 20_000})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_node("left_child", 1_000_000), "a node whose child is none of its nodes"),
        (_node("right_child", -7), "a node whose child is none of its nodes"),
        (_node("left_child", 0), "a node whose child is none of its nodes"),
        (_node("feature", 4), "asks for a feature that it does not have"),
        (_node("feature", -2), "asks for a feature that it does not have"),
        (_features("Tree", count=400), "holds a tree that is for another number of features"),
        (
            _features("RandomForestClassifier", count=2),
            "RandomForestClassifier holds a tree that is for another number",
        ),
        (
            _features("DecisionTreeClassifier", count=2),
            "DecisionTreeClassifier holds a tree that is for another number",
        ),
        (_features("Tree", "DecisionTreeClassifier", count=400), "RandomForestClassifier holds a tree that is for"),
        (_fewer_nodes, "has 1 nodes and room for"),
    ],
)
def test_a_tree_that_leads_out_of_its_memory_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], message: str
) -> None:
    save(_forest(), tmp_path)
    _rewritten(tmp_path / FILE_NAME, lambda _schema, _members: None)
    assert np.array_equal(_back(tmp_path).predict(ROWS), _forest().predict(ROWS)), "rewriting alone changes nothing"

    _rewritten(tmp_path / FILE_NAME, change)

    with pytest.raises(RefusedError, match=message):
        _back(tmp_path)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_forest_of_parts_of_the_features_comes_back_and_one_of_others_does_not(tmp_path: Path, share: float) -> None:
    model = IsolationForest(n_estimators=4, max_features=share, random_state=1).fit(ROWS)

    save(model, tmp_path)
    assert np.array_equal(_back(tmp_path).predict(ROWS), model.predict(ROWS))

    _rewritten(tmp_path / FILE_NAME, _features("Tree", "ExtraTreeRegressor", count=400))
    with pytest.raises(RefusedError, match="IsolationForest holds a tree that is for another number of features"):
        _back(tmp_path)


def test_a_bomb_and_a_name_outside_the_archive_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / FILE_NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (64 << 20))
    with pytest.raises(RefusedError, match="would inflate"):
        _back(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE_NAME, "w") as archive:
        archive.writestr("../schema.json", b"{}")
    with pytest.raises(RefusedError, match="outside the folder"):
        _back(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive", b"{}"])
def test_what_is_no_skops_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(RefusedError, match=r"model\.skops was not loaded"):
        _back(tmp_path)


def test_every_damage_of_the_description_is_a_refusal_and_no_other_error(tmp_path: Path) -> None:
    save(_pipeline(), tmp_path)
    right = (tmp_path / FILE_NAME).read_bytes()
    random = np.random.default_rng(11)

    for _ in range(60):

        def change(schema: dict[str, Any], _members: dict[str, bytes]) -> None:
            node: Any = schema["content"]
            values: list[Any] = [None, 1, "x", [], {}]
            while isinstance(node, dict) and node:
                key = sorted(node)[random.integers(len(node))]
                if random.random() < 0.3 or not isinstance(node[key], dict | list):
                    node[key] = values[random.integers(len(values))]
                    return
                node = node[key] if isinstance(node[key], dict) else {"first": node[key][0]} if node[key] else {}

        (tmp_path / FILE_NAME).write_bytes(right)
        _rewritten(tmp_path / FILE_NAME, change)
        with contextlib.suppress(RefusedError):
            _back(tmp_path)


def test_without_skops_it_is_said_which_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(_pipeline(), tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "skops.io", None)

    for refused in (lambda: _back(tmp_path), lambda: save(_pipeline(), tmp_path)):
        with pytest.raises(MissingExtraError, match=r"needs skops, which is not installed: .*modelway\[sklearn\]"):
            refused()


def test_files_that_are_no_skops_are_given_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"opaque")

    assert load(tmp_path, ("model.joblib",), {}) == b"opaque"
    assert isinstance(save(_pipeline(), tmp_path), SavedModel)

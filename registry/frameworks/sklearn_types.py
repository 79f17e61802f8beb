"""What a ``.skops`` file may use beside what skops itself holds to be safe, each of it reviewed.

Reviewed are classes of plain Python, which hold data and run nothing when they are made, and functions of arrays. Not
among them is what hands numbers from the file to compiled code unchecked, where a wrong one reads foreign memory:
neighbour searches (``KDTree``, ``BallTree``), gradient boosting, splines, sparse matrices. Decision trees and forests
are of that kind too; they are taken because every number that is followed in them is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np

from registry.errors import RefusedError

TREE = "sklearn.tree._tree.Tree"
_KERNELS = (
    "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF "
    "RationalQuadratic Sum WhiteKernel"
)
_SPLITS = (
    "GroupKFold KFold LeaveOneOut RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedKFold "
    "StratifiedShuffleSplit TimeSeriesSplit"
)
_SCORES = "chi2 f_classif f_oneway f_regression r_regression"
REVIEWED = frozenset(
    {
        TREE,
        "numpy.dtype",
        "numpy.mean",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.model_selection._search_successive_halving.HalvingGridSearchCV",
        "sklearn.model_selection._search_successive_halving.HalvingRandomSearchCV",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.utils._bunch.Bunch",
    }
    | {f"sklearn.gaussian_process.kernels.{name}" for name in _KERNELS.split()}
    | {f"sklearn.model_selection._split.{name}" for name in _SPLITS.split()}
    | {f"sklearn.feature_selection._univariate_selection.{name}" for name in _SCORES.split()}
)


def check_trees(file: Path, model: object, allowed: AbstractSet[str]) -> None:
    """Refuse decision trees whose numbers lead outside of them or of the rows that they are given.

    scikit-learn follows them in compiled code without looking. Trees that the caller allowed by name are not checked.

    Raises:
        RefusedError: A tree's nodes or features are out of range, it is not of the size that its estimator expects, or
            it is part of gradient boosting, whose own code writes where its file says.
    """
    if TREE in allowed:
        return
    why = next((wrong for found in _objects_in(model) if (wrong := _wrong_with(found))), None)
    if why is not None:
        raise RefusedError(
            f"{file} was not loaded: {why}, and compiled code of scikit-learn would follow that out of its memory. "
            f"Where you trust its origin, allow it by name: allow_pickle={{{TREE!r}}}."
        )


def _objects_in(model: object) -> Iterator[Any]:
    """Yield every object that is reached through attributes and containers, once."""
    seen: dict[int, object] = {}  # the objects too: the id of one that is gone may be another's
    waiting: list[Any] = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            waiting += value
        elif isinstance(value, np.ndarray) and value.dtype == object:
            waiting += value.ravel().tolist()
        elif isinstance(value, MethodType):
            waiting.append(value.__self__)
        if not isinstance(value, type):
            waiting += getattr(value, "__dict__", {}).values()


def _wrong_with(found: Any) -> str | None:
    from sklearn.ensemble import IsolationForest
    from sklearn.ensemble._forest import BaseForest
    from sklearn.ensemble._gb import BaseGradientBoosting
    from sklearn.tree import BaseDecisionTree
    from sklearn.tree._tree import Tree

    if isinstance(found, Tree):
        return _wrong_with_tree(found)
    fitted = vars(found) if hasattr(found, "__dict__") else {}
    if isinstance(found, BaseDecisionTree) and "tree_" in fitted:
        return _unless(_features(found) == [fitted.get("n_features_in_")], found)
    if isinstance(found, BaseGradientBoosting) and "estimators_" in fitted:
        return f"its {type(found).__name__} says itself where the results of its trees are added up"
    if isinstance(found, BaseForest | IsolationForest) and "estimators_" in fitted:
        trees = list(fitted["estimators_"])
        expected = [fitted.get("n_features_in_")] * len(trees)
        if isinstance(found, IsolationForest) and fitted.get("_max_features") != fitted.get("n_features_in_"):
            expected = [len(features) for features in fitted["estimators_features_"]]
        whole = all(isinstance(tree, BaseDecisionTree) for tree in trees)
        return _unless(whole and [one for tree in trees for one in _features(tree)] == expected, found)
    return None


def _features(estimator: Any) -> list[Any]:
    return [getattr(vars(estimator).get("tree_"), "n_features", "no tree")]


def _unless(right: bool, found: Any) -> str | None:  # noqa: FBT001 - a private sentence: unless this, that
    return None if right else f"its {type(found).__name__} holds a tree that is for another number of features"


def _wrong_with_tree(tree: Any) -> str | None:
    if not tree.node_count == tree.capacity > 0:
        return f"a tree of it has {tree.node_count} nodes and room for {tree.capacity}"
    numbers = np.arange(tree.node_count)
    inner = tree.children_left != -1
    for children in (tree.children_left[inner], tree.children_right[inner]):
        # Written parent first; a child before its parent would make a circle.
        if not ((children > numbers[inner]) & (children < tree.node_count)).all():
            return "a tree of it has a node whose child is none of its nodes"
    features = tree.feature[inner]
    if not ((features >= 0) & (features < tree.n_features)).all():
        return "a tree of it asks for a feature that it does not have"
    return None

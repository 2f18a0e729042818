"""Projections against the definition of principal components, and neighbourhoods that an embedding keeps."""

import random

import numpy as np
import pytest
import torch

from equipoise.diagnosis.features.projections import project
from equipoise.types import DataError, UnknownNameError, UsageError


@pytest.fixture
def splits(blobs):
    train, labels = blobs(n=120, classes=4, d=12, separation=3.0, seed=1)
    val, val_labels = blobs(n=60, classes=4, d=12, separation=3.0, seed=2)
    return train, labels, val, val_labels


def test_pca_projects_on_the_eigenvectors_of_the_training_covariance(splits):
    train, labels, val, val_labels = splits
    found = project(train, labels, val, val_labels, kind="pca", modality="audio")
    centred = train - train.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    for own, data in ((found.train, train), (found.val, val)):
        expected = (data - train.mean(0)) @ axes
        signs = np.sign((expected * own).sum(0))
        np.testing.assert_allclose(own, expected * signs, atol=1e-9)
    np.testing.assert_allclose(found.explained, values[::-1][:2] / values.sum(), rtol=1e-9)
    assert (found.modality, found.kind, found.perplexity) == ("audio", "pca", None)
    np.testing.assert_array_equal(found.train_labels, labels)
    np.testing.assert_array_equal(found.val_labels, val_labels)


def test_tsne_keeps_neighbours_of_a_class_together_over_both_splits(splits):
    train, labels, val, val_labels = splits
    found = project(train, labels, val, val_labels)
    distances = np.linalg.norm(found.val[:, None] - found.train[None], axis=2)
    assert np.mean(labels[distances.argmin(1)] == val_labels) > 0.95
    shuffled = np.random.default_rng(0).permutation(labels)
    assert np.mean(shuffled[distances.argmin(1)] == val_labels) < 0.8  # so the assertion above can fail
    assert (found.perplexity, found.explained) == (30.0, None)
    assert found.train.shape == (120, 2)
    assert found.val.shape == (60, 2)


@pytest.mark.parametrize("kind", ["t-sne", "pca"])
def test_same_input_gives_the_same_bits_and_random_states_are_unchanged(splits, kind):
    train, labels, val, val_labels = splits
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    copy = train.copy()
    one, two = (project(train, labels, val, val_labels, kind=kind, max_samples=50) for _ in range(2))
    assert one.train.tobytes() == two.train.tobytes()
    assert one.val.tobytes() == two.val.tobytes()
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    np.testing.assert_array_equal(train, copy)
    other = project(train, labels, val, val_labels, kind=kind, max_samples=50, seed=1)
    assert one.train.tobytes() != other.train.tobytes()


def test_a_subset_is_stratified_and_reports_the_full_number(blobs):
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 997, p=[0.5, 0.3, 0.1, 0.07, 0.03])
    features = np.column_stack([labels, np.arange(997.0)])
    found = project(features, labels, features[:9], labels[:9], kind="pca", max_samples=100)
    assert (len(found.train), len(found.val)) == (100, 9)
    assert (found.total_train, found.total_val) == (997, 9)
    shares = np.bincount(found.train_labels, minlength=5) - np.bincount(labels, minlength=5) * 100 / 997
    assert np.abs(shares).max() < 1 + 1e-9


def test_labels_match_their_samples(blobs):
    labels = np.repeat([0, 1], 300)
    features = np.column_stack([np.where(labels == 1, 100.0, 0.0), np.random.default_rng(0).random(600)])
    found = project(features, labels, features, labels, kind="pca", max_samples=70)
    right = found.train[:, 0] > 0
    assert len(np.unique(found.train_labels[right])) == len(np.unique(found.train_labels[~right])) == 1


def test_names_of_classes():
    x = np.random.default_rng(0).random((6, 3))
    words = np.array(["run", "walk"] * 3)
    found = project(x, words, x[:2], words[:2], kind="pca")
    assert found.classes == ("run", "walk")
    np.testing.assert_array_equal(found.train_labels, [0, 1] * 3)
    named = project(x, [2, 0] * 3, x[:2], [2, 2], kind="pca", classes=["a", "b", "c"])
    assert named.classes == ("a", "b", "c")
    np.testing.assert_array_equal(named.train_labels, [2, 0] * 3)
    with pytest.raises(DataError, match="2 classes are named"):
        project(x, [2, 0] * 3, x[:2], [2, 2], classes=["a", "b"])


@pytest.mark.parametrize("kind", ["t-sne", "pca"])
@pytest.mark.parametrize(("n", "n_val", "width"), [(1, 1, 1), (3, 1, 4), (4, 4, 1), (5, 1, 3), (20, 2, 2500)])
@pytest.mark.parametrize("constant", [False, True])
def test_small_and_constant_features_give_finite_positions(kind, n, n_val, width, constant):
    rng = np.random.default_rng(0)
    draw = (lambda k: np.full((k, width), 0.1)) if constant else (lambda k: rng.normal(size=(k, width)))
    found = project(draw(n), np.arange(n) % 2, draw(n_val), np.zeros(n_val, int), kind=kind)
    for plane, count in ((found.train, n), (found.val, n_val)):
        assert plane.shape == (count, 2)
        assert np.isfinite(plane).all()
    assert np.isfinite(found.explained or (0, 0)).all()


def test_invalid_input_is_refused(splits):
    train, labels, val, val_labels = splits
    with pytest.raises(UnknownNameError, match="umap"):
        project(train, labels, val, val_labels, kind="umap")
    with pytest.raises(UsageError, match="at least 1"):
        project(train, labels, val, val_labels, max_samples=0)
    with pytest.raises(DataError, match="12 wide and val features 11"):
        project(train, labels, val[:, 1:], val_labels)
    with pytest.raises(DataError, match="119 train labels"):
        project(train, labels[1:], val, val_labels)

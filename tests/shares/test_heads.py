"""Heads: answers from any sensors, how sure they are, and that a saved one is the same."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sheafalign_fl as sf
from sheafalign_fl.shares import calibration
from sheafalign_fl.shares.head_folder import find_head, kept_head
from sheafalign_fl.shares.heads import Head
from sheafalign_fl.shares.model import Model
from tests.shares.conftest import Recorded

CLIENTS = ("camera", "imu", "thermometer")
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(CLIENTS, size)]


@pytest.fixture(scope="module")
def model(recorded: Recorded) -> Model:
    return sf.load_model(recorded.path)


@pytest.fixture(scope="module")
def head(recorded: Recorded, model: Model) -> Head:
    labels = recorded.label[recorded.rows("train")]
    return model.fit_head(labels, {name: recorded.raw(name, "train") for name in CLIENTS})


def test_with_all_sensors_it_is_logistic_regression_on_their_embeddings(
    recorded: Recorded, model: Model, head: Head
) -> None:
    def embedded(split: str) -> np.ndarray:
        parts = [model[name].embed(recorded.raw(name, split)) for name in CLIENTS]
        return np.concatenate(parts, axis=1).astype(np.float64)

    direct = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    direct.fit(embedded("train"), recorded.label[recorded.rows("train")])
    found = head.predict({name: recorded.raw(name, "test") for name in CLIENTS})
    assert (found.labels == direct.predict(embedded("test"))).all()
    scores = direct.decision_function(embedded("test"))
    temperature = head.linear.certainty[7, 0]
    assert found.probabilities is not None
    assert np.allclose(found.probabilities, calibration.softmax(scores / temperature), atol=1e-6)


@pytest.mark.parametrize("subset", SUBSETS)
def test_any_sensors_answer_and_their_probabilities_mean_what_they_say(
    recorded: Recorded, head: Head, subset: tuple[str, ...]
) -> None:
    found = head.predict({name: recorded.raw(name, "test") for name in subset})
    label = recorded.label[recorded.rows("test")]
    assert found.present == subset
    assert found.probabilities is not None
    assert np.allclose(found.probabilities.sum(axis=1), 1)
    right = float((found.labels == label).mean())
    assert right > 0.45
    # Of 160 events a share of right answers has a deviation of 0.04 at most.
    assert float(found.probabilities.max(axis=1).mean()) == pytest.approx(right, abs=0.12)


def test_values_are_predicted_with_their_error(recorded: Recorded, model: Model) -> None:
    train, test = recorded.rows("train"), recorded.rows("test")
    value = recorded.x["thermometer"][:, 0] * 2.0
    value = np.where(np.arange(len(value)) % 7 == 0, np.nan, value)
    x = {name: recorded.raw(name, "train") for name in CLIENTS}
    head = model.fit_head(value[train], x)
    found = head.predict({"thermometer": recorded.raw("thermometer", "test")})
    truth = recorded.x["thermometer"][test, 0] * 2.0
    left = np.sqrt(np.square(found.labels - truth).mean())
    assert found.probabilities is None
    assert found.error is not None
    assert left < 0.5 * truth.std()
    assert float(found.error[0]) == pytest.approx(left, rel=0.3)
    both = model.fit_head(np.stack([value, value], axis=1)[train], x)
    assert both.predict({"imu": recorded.raw("imu", "test")}).labels.shape == (160, 2)


def test_what_has_no_label_is_left_out_of_a_fit(recorded: Recorded, model: Model) -> None:
    """Of classes -1 and empty text have none; of values NaN has none, and -1 is a value."""
    label = recorded.label[recorded.rows("train")]
    x = {"thermometer": recorded.raw("thermometer", "train")}
    named = np.array([f"class {code}" for code in label])
    for given_, nothing, classes in ((label, -1, range(4)), (named, "", sorted({*named}))):
        some = given_.copy()
        some[:30] = nothing
        assert model.fit_head(some, x).classes.tolist() == list(classes)
    below = np.where(label % 2 == 0, -1.0, -3.0)
    found = model.fit_head(below, x).predict(x).labels
    assert np.corrcoef(found, below)[0, 1] > 0.5


def test_a_saved_head_is_the_same(
    recorded: Recorded, model: Model, head: Head, tmp_path: Path
) -> None:
    head.save(tmp_path / "head")
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == [
        "head.json",
        "weights.safetensors",
    ]
    x = {"imu": recorded.raw("imu", "test")}
    again = model.load_head(tmp_path / "head").predict(x)
    assert again.probabilities is not None
    before = head.predict(x)
    assert before.probabilities is not None
    assert again.probabilities.tobytes() == before.probabilities.tobytes()
    assert (again.labels == before.labels).all()


def test_a_saved_head_that_was_changed_is_refused(model: Model, head: Head, tmp_path: Path) -> None:
    folder = tmp_path / "head"
    with pytest.raises(sf.DataError, match=r"is no head: it has no head\.json"):
        model.load_head(folder)
    head.save(folder)
    facts = json.loads((folder / "head.json").read_bytes())
    for changes, message in (
        ({"format": 2}, "is of head format 2"),
        ({"run_id": "0" * 32}, "embeddings of another run"),
        ({"clients": ["camera", "imu"]}, "is damaged"),
        ({"clients": ["camera", "imu", "radar"]}, "'radar' is not here"),
        ({"weights": "0" * 64}, "fit the head again"),
        ({"own": 1}, "is damaged"),
    ):
        (folder / "head.json").write_text(json.dumps(facts | changes))
        with pytest.raises(sf.DataError, match=message):
            model.load_head(folder)


def test_text_labels_and_events_without_a_label(recorded: Recorded, model: Model) -> None:
    x = {"camera": recorded.raw("camera", "train")}
    names = np.array(["north", "east", "south", "west"])[recorded.label[recorded.rows("train")]]
    found = model.fit_head(names, x).predict({"camera": recorded.raw("camera", "test")})
    assert list(found.classes) == ["east", "north", "south", "west"]
    some = np.where(np.arange(360) < 100, recorded.label[recorded.rows("train")], -1)
    assert list(model.fit_head(some, x).classes) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, dtype=int), r"labels have shape \(5,\), but there are 360 events"),
        (np.zeros(360, dtype=int), "all of class 0"),
        (np.full(360, -1), "0 of 360 events are labelled"),
        (np.full(360, np.nan), "0 of 360 events are labelled"),
        (np.full((360, 2), 3), "0 and 1, a column for each label"),
        (np.zeros((360, 0), dtype=int), "a column for each label"),
    ],
)
def test_labels_that_cannot_be_are_refused(
    recorded: Recorded, model: Model, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(sf.DataError, match=message):
        model.fit_head(labels, {"camera": recorded.raw("camera", "train")})


def test_sensors_that_cannot_answer_are_refused(
    recorded: Recorded, model: Model, head: Head
) -> None:
    with pytest.raises(sf.DataError, match="none is given"):
        head.predict({})
    with pytest.raises(sf.DataError, match="not fitted on 'radar'"):
        head.predict({"radar": np.ones((1, 6))})
    two = {"imu": recorded.raw("imu", "test")[:2], "camera": recorded.raw("camera", "test")}
    with pytest.raises(sf.DataError, match="events differ in number"):
        head.predict(two)


def test_several_labels_an_event_have_a_probability_each(
    recorded: Recorded, model: Model, tmp_path: Path
) -> None:
    def tags(split: str) -> np.ndarray:
        codes = recorded.label[recorded.rows(split)]
        return np.stack([codes % 2, codes // 2, np.ones_like(codes)], axis=1)

    fit = tags("train")
    fit[:20, 0] = -1
    head = model.fit_head(fit, {name: recorded.raw(name, "train") for name in CLIENTS})
    assert head.kind == "multi"
    given_ = {name: recorded.raw(name, "test") for name in CLIENTS}
    x = np.concatenate([model[name].embed(given_[name]) for name in CLIENTS], axis=1)
    raw = {name: recorded.raw(name, "train") for name in CLIENTS}
    whole = np.concatenate([model[name].embed(raw[name]) for name in CLIENTS], axis=1)
    known = fit[:, 0] >= 0
    for present in (CLIENTS, ("imu",)):
        found = head.predict({name: given_[name] for name in present})
        assert found.probabilities is not None
        assert ((found.probabilities > 0.5) == (found.labels == 1)).all()
        assert (found.labels[:, 2] == 1).all()
        confident = np.abs(found.probabilities - found.labels)[:, :2].mean()
        wrong = (found.labels != tags("test"))[:, :2].mean()
        assert confident == pytest.approx(wrong, abs=0.08)
    for column in (0, 1):
        direct = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        direct.fit(whole[known].astype(float), fit[known, column])
        expected = direct.predict(x.astype(float))
        assert (head.predict(given_).labels[:, column] == expected).mean() > 0.99
    head.save(tmp_path / "head")
    again = model.load_head(tmp_path / "head").predict(given_)
    assert again.probabilities is not None
    before = head.predict(given_).probabilities
    assert before is not None
    assert np.array_equal(again.probabilities, before)


def test_a_head_is_found_by_its_folder_or_by_the_name_it_is_kept_under(tmp_path: Path) -> None:
    assert kept_head(tmp_path, "street-1") == tmp_path / "heads" / "street-1"
    for name in ("", "..", "a/b", ".hidden", "a" * 100):
        with pytest.raises(sf.DataError, match="cannot name a head"):
            kept_head(tmp_path, name)
    kept = tmp_path / "heads" / "street"
    kept.mkdir(parents=True)
    assert find_head(tmp_path, Path("street")) == kept
    assert find_head(tmp_path, Path("..")) == Path("..")
    assert find_head(tmp_path, Path("other")) == Path("other")
    assert find_head(tmp_path, tmp_path / "street") == tmp_path / "street"


# ---- calibration ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5), scale=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_the_temperature_has_the_least_negative_log_likelihood(
    seed: int, classes: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(200, classes))
    codes = np.array([rng.choice(classes, p=row) for row in calibration.softmax(truth)])
    logits = scale * truth

    def loss(logarithm: float) -> float:
        p = calibration.softmax(logits / np.exp(logarithm))
        return -float(np.log(p[np.arange(200), codes] + 1e-300).mean())

    best = minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e2)), method="bounded")
    assert loss(np.log(calibration.temperature(logits, codes))) <= best.fun + 1e-9


@pytest.mark.parametrize("sensors", [1, 3, 6, 7, 9])
def test_every_subset_has_a_calibration(sensors: int) -> None:
    found = dict(calibration.groups(sensors))
    for size in range(1, sensors + 1):
        for subset in combinations(range(sensors), size):
            group = found[calibration.group_of(subset, sensors)]
            assert all(len(other) == size for other in group)
            assert sensors > 6 or group == [subset]


def test_folds_spread_every_class() -> None:
    codes = np.repeat([0, 1, 2], [50, 7, 1])
    fold = calibration.folds(codes)
    assert [np.bincount(fold[codes == code], minlength=5).tolist() for code in (0, 1)] == [
        [10] * 5,
        [2, 2, 1, 1, 1],
    ]

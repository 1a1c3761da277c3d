"""What joins collected inputs to predictions, and both to the request that they belong to."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest

import scoretrace
from collected import features, files, parsed, rows
from scoretrace import ModelDataCollector


@pytest.mark.parametrize("values", [[0.9, 0.1, 0.5], np.array([0.9, 0.1, 0.5]), pd.Series([0.9, 0.1, 0.5])])
def test_one_dimension_is_one_row_or_one_prediction_each(home, values):
    """One row as documented; a row for each value where that is asked for, or where one feature is named."""
    ModelDataCollector("m", "predictions").collect(values)
    ModelDataCollector("n", "predictions", ["a"], per_prediction=True).collect(values)

    ModelDataCollector("o", "predictions", ["y"]).collect(values)

    by_model = {path.parts[-7]: parsed(path.read_bytes()) for path in files(home)}
    assert [row[:3] for row in by_model["m"][1:]] == [["0.9", "0.1", "0.5"]]
    assert [row[0] for row in by_model["n"]] == ["a", "0.9", "0.1", "0.5"]
    assert [row[0] for row in by_model["o"]] == ["y", "0.9", "0.1", "0.5"]


def test_rows_of_one_call_are_numbered(home):
    """Each has an id of its own, which begins with that of the call."""
    returned = ModelDataCollector("m", "inputs").collect(np.zeros((3, 2)))

    ids = [row["$aml_dc_correlation_id"] for row in rows(home)]
    assert ids == [f"{returned['$aml_dc_correlation_id']}_{number}" for number in range(3)]


def test_inputs_and_predictions_join(home):
    """Without any help of the script: one id for both, a new one for the next scoring."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", identifier="predictions")
    for number in range(3):
        inputs.collect([number, 1])
        predictions.collect([number * 10])

    joined = {row["$aml_dc_correlation_id"]: features(row) for row in rows(home)}
    assert [(joined[row["$aml_dc_correlation_id"]][0], row["column0"]) for row in rows(home, "predictions")] == [
        ("0", "0"),
        ("1", "10"),
        ("2", "20"),
    ]
    assert len(joined) == 3


def test_two_scorings_at_a_time_are_not_mixed_up(home):
    """Each thread has its own, outside a request too."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions")
    barrier = threading.Barrier(4)

    def score(number):
        for _ in range(20):
            inputs.collect([number])
            barrier.wait()
            predictions.collect([number])

    threads = [threading.Thread(target=score, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    joined = {row["$aml_dc_correlation_id"]: row["column0"] for row in rows(home)}
    assert len(joined) == 80
    assert all(joined[row["$aml_dc_correlation_id"]] == row["column0"] for row in rows(home, "predictions"))


def test_a_prediction_without_inputs_has_an_id_of_its_own(home):
    """Rather than that of somebody else's inputs: an id is used once by each designation, and by one model."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions")
    other = ModelDataCollector("other", "predictions")
    inputs.collect([1])
    predictions.collect([1])
    predictions.collect([2])
    other.collect([3])

    first, again = (row["$aml_dc_correlation_id"] for row in rows(home, "predictions"))
    (others,) = (path for path in files(home) if "/other/" in path.as_posix())
    assert first == rows(home)[0]["$aml_dc_correlation_id"]
    assert len({first, again, parsed(others.read_bytes())[1][1]}) == 3


@pytest.mark.parametrize("refused", [b"raw", [1, 2, 3], []])
def test_a_prediction_after_inputs_that_were_refused(home, refused):
    """Does not belong to the inputs before those."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a", "b"]), ModelDataCollector("m", "predictions", ["y"])
    inputs.collect([1, 2])
    inputs.collect(refused)
    predictions.collect([20])

    assert rows(home)[0]["$aml_dc_correlation_id"] != rows(home, "predictions")[0]["$aml_dc_correlation_id"]


def test_correlations_may_stand_for_the_users_id(home):
    """What collect returned, handed to the next one."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions", ["y"])
    correlations = inputs.collect([[1], [2]])
    inputs.collect([9])
    predictions.collect([10, 20], correlations)

    assert [row["$aml_dc_correlation_id"] for row in rows(home, "predictions")] == [
        row["$aml_dc_correlation_id"] for row in rows(home)[:2]
    ]
    assert predictions.add_correlations([1], "text") == [1]


def test_rows_belong_to_the_request_around_them(telemetry, home, items):
    """Its operation id and its id, also where the prediction is made in another thread."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions")

    @scoretrace.request
    def run(data):
        inputs.collect(data)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(predictions.collect, [sum(data)]).result()

    run([1, 2])
    run([3, 4])

    requests = {item.operation_id: item.id for item in items("request")}
    found = rows(home)
    assert {row["$scoretrace_operation_id"]: row["$aml_request_id"] for row in found} == requests
    answers = {row["$aml_dc_correlation_id"]: row["column0"] for row in rows(home, "predictions")}
    assert [answers[row["$aml_dc_correlation_id"]] for row in found] == ["3", "7"]


def test_several_scorings_inside_one_request(telemetry, home):
    """Each prediction belongs to the inputs before it."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions")
    with scoretrace.request_context("batch"):
        for number in range(3):
            inputs.collect([number])
            predictions.collect([number])

    joined = {row["$aml_dc_correlation_id"]: row["column0"] for row in rows(home)}
    assert len(joined) == 3
    assert all(joined[row["$aml_dc_correlation_id"]] == row["column0"] for row in rows(home, "predictions"))


@pytest.mark.parametrize(
    "predicted",
    [
        [0.5, 1.5],
        [[0.5], [1.5]],
        np.array([0.5, 1.5]),
        np.array([[0.5], [1.5]]),
        pd.DataFrame({"y": [0.5, 1.5]}),
        pl.DataFrame({"y": [0.5, 1.5]}),
        {"y": [0.5, 1.5]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_add_correlations_puts_them_behind_each_row(home, predicted):
    """As the documentation has it, for each kind of data; what is collected then carries the ids of that call."""
    inputs, predictions = ModelDataCollector("m", "inputs"), ModelDataCollector("m", "predictions", ["y"])
    correlations = inputs.collect([[1, 2], [3, 4]])
    inputs.collect([9, 9])
    shape = np.shape(predicted)
    names = ["y"] if len(shape) != 1 else ["y", "z"]  # of one name, one dimension would be a column
    predictions = ModelDataCollector("m", "predictions", names)

    with_them = predictions.add_correlations(predicted, correlations)
    returned = predictions.collect(with_them)

    if not isinstance(predicted, dict):
        assert isinstance(with_them, type(predicted))
    found = rows(home, "predictions")
    ids = [row["$aml_dc_correlation_id"] for row in found]
    wanted = correlations["$aml_dc_correlation_id"]
    assert ids == ([wanted] if len(shape) == 1 else [f"{wanted}_0", f"{wanted}_1"])
    assert all(row["$aml_dc_scoring_timestamp"] == correlations["$aml_dc_scoring_timestamp"] for row in found)
    assert [cell for row in found for cell in features(row)] == ["0.5", "1.5"]
    assert returned["$aml_dc_correlation_id"] == wanted


def test_add_correlations_of_nothing_changes_nothing():
    """None is what collect returns while collection is off."""
    collector, data = ModelDataCollector("m", "predictions"), object()

    assert collector.add_correlations([1], None) == [1]
    assert collector.add_correlations(data, {"$aml_dc_correlation_id": "x"}) is data


def test_inputs_that_carry_ids_are_the_scoring_that_follows(home):
    """A prediction after them has theirs, and not those of the inputs before."""
    inputs, predictions = ModelDataCollector("m", "inputs", ["a", "b"]), ModelDataCollector("m", "predictions", ["y"])
    carried = inputs.collect([1, 2])
    inputs.collect([3, 4])
    inputs.collect([5, 6], carried)
    predictions.collect([0.5])

    (prediction,) = rows(home, "predictions")
    assert prediction["$aml_dc_correlation_id"] == carried["$aml_dc_correlation_id"]


def test_no_correlations_are_no_correlations(home):
    """As in ``inputs.collect(data) or {}``, where collection is off."""
    predictions = ModelDataCollector("m", "predictions", ["y"])
    predictions.collect([1.0], {})
    predictions.collect([2.0], {"other": 1})

    found = rows(home, "predictions")
    assert [row["y"] for row in found] == ["1.0", "2.0"]
    assert len({row["$aml_dc_correlation_id"] for row in found}) == 2

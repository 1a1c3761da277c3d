"""The imports of Azure ML's own packages are answered where those are absent, and scripts run as they are."""

import subprocess
import sys
import textwrap

import pytest

import scoretrace
from collected import files, rows
from scoretrace import compat


@pytest.fixture
def installed():
    undo = compat.install()
    yield
    undo()


def test_documented_imports_are_ours(installed):
    """Every spelling that public scripts have."""
    from azureml.ai.monitoring import Collector
    from azureml.ai.monitoring.context import BasicCorrelationContext
    from azureml.core import Model as Other
    from azureml.core.model import Model
    from azureml.monitoring import ModelDataCollector
    from azureml.monitoring.modeldatacollector import ModelDataCollector as Same

    assert ModelDataCollector is Same is scoretrace.ModelDataCollector
    assert Collector is scoretrace.Collector
    assert BasicCorrelationContext is scoretrace.BasicCorrelationContext
    assert Model is Other is compat.Model


def test_it_can_be_undone():
    """And what is not answered is as absent as before."""
    code = """
        from importlib import import_module
        from scoretrace import compat

        def there(name):
            try:
                return bool(import_module(name))
            except ModuleNotFoundError:
                return False

        undo = compat.install()
        print(there("azureml.monitoring"), there("azureml.nothing"))
        undo()
        print(there("azureml.monitoring"), there("azureml"))
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == ["True", "False", "False", "False"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_installed_is_left_alone_unless_it_is_to_be_replaced(tmp_path, replace):
    """azureml-monitoring can be imported and fails at each collect, so there is a way around it."""
    package = tmp_path / "azureml" / "monitoring"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class ModelDataCollector: whose = 'theirs'")
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from scoretrace import compat
        compat.install(replace={replace})
        from azureml.monitoring import ModelDataCollector
        from azureml.ai.monitoring import Collector
        from azureml.core.model import Model
        print(ModelDataCollector.__module__, Collector.__module__, Model.__module__)
    """
    shown = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)

    theirs = "scoretrace.collect.model_data_collector" if replace else "azureml.monitoring"
    assert shown.stdout.split() == [theirs, "scoretrace.collect.collector", "scoretrace.compat"]


def test_a_documented_script_runs_unchanged(home, tmp_path):
    """The one of Azure ML's documentation, with scoretrace run."""
    (tmp_path / "score.py").write_text(
        textwrap.dedent(
            """
            import json, os, pickle
            import numpy as np
            from azureml.core.model import Model
            from azureml.monitoring import ModelDataCollector

            def init():
                global model, inputs_dc, prediction_dc
                with open(Model.get_model_path(model_name="best_model"), "rb") as file:
                    model = pickle.load(file)
                inputs_dc = ModelDataCollector("best_model", identifier="inputs", feature_names=["feat1", "feat2"])
                names = ["prediction1"]
                prediction_dc = ModelDataCollector("best_model", identifier="predictions", feature_names=names)

            def run(raw_data):
                try:
                    data = np.array(json.loads(raw_data)["data"])
                    result = np.array([data.sum() * model])
                    inputs_dc.collect(data)
                    prediction_dc.collect(result)
                    return result.tolist()
                except Exception as e:
                    return str(e)
            """
        )
    )
    (tmp_path / "best_model").write_bytes(b"\x80\x04K\x03.")  # a pickled 3
    (tmp_path / "requests.ndjson").write_text('{"data": [[1, 2]]}\n{"data": [[3, 4]]}\n')
    shown = subprocess.run(
        [sys.executable, "-m", "scoretrace", "run", "score.py", "requests.ndjson", "-o", "out.ndjson"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "0 failed" in shown.stderr
    assert (tmp_path / "out.ndjson").read_text() == "[9.0]\n[21.0]\n".replace(".0", "")
    inputs, predictions = rows(home), rows(home, "predictions")
    assert [(row["feat1"], row["feat2"]) for row in inputs] == [("1", "2"), ("3", "4")]
    assert [row["prediction1"] for row in predictions] == ["9", "21"]
    assert [row["$aml_dc_correlation_id"] for row in inputs] == [row["$aml_dc_correlation_id"] for row in predictions]
    requests = scoretrace.query("requests | project operation_Id", source=home).rows
    assert {row["$scoretrace_operation_id"] for row in inputs} == {operation for (operation,) in requests}
    assert len(files(home)) == 2


def test_the_path_of_a_model(tmp_path, monkeypatch):
    """In AZUREML_MODEL_DIR or azureml-models, by version, as the only thing in its folder; or a plain file."""
    monkeypatch.chdir(tmp_path)
    for place in ("azureml-models/m/9/m.pkl", "azureml-models/m/10/m.pkl", "mine/n/file.bin", "plain.pkl"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path / "mine"))
    get = compat.Model.get_model_path

    assert get("m") == "azureml-models/m/10/m.pkl"
    assert get("m", version=9) == "azureml-models/m/9/m.pkl"
    assert get("n") == str(tmp_path / "mine" / "n")
    assert get("plain.pkl") == "plain.pkl"
    with pytest.raises(FileNotFoundError, match="AZUREML_MODEL_DIR"):
        get("m", version=11)
    with pytest.raises(FileNotFoundError, match="there is no model none"):
        get("none")

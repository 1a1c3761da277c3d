"""A web service of this machine: switched while it runs, and its logs."""

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import scoretrace
from processes import until
from scoretrace import AciWebservice, AksWebservice, ServiceError, ServiceNotFound, SettingsError, Webservice, locks
from scoretrace.cli import cli

ROOT = Path(__file__).resolve().parents[1]
SDKS = ROOT / ".venv" / "azureml" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
LOG = logging.getLogger("score")


@pytest.fixture(name="command")
def _command():
    return lambda *words: CliRunner().invoke(cli, [*map(str, words)])


@pytest.fixture(name="damaged")
def _damaged(telemetry, home):
    """A file of switches that was cut in half."""
    LOG.info("one")
    path = home / "state" / "switches" / "svc.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"enable_app_ins')
    return path


def test_update_is_obeyed_at_once_by_the_process_that_calls_it(telemetry, items):
    """Any number of times, by logs, prints and requests: a notebook sees what it said."""
    LOG.info("first")
    for number in range(5):
        scoretrace.update("svc", enable_app_insights=False)
        LOG.info("off")
        print("off")
        scoretrace.update("svc", enable_app_insights=True)
        LOG.info("%d", number)

    assert [item.message for item in items()] == ["first", *map(str, range(5))]


def test_another_process_obeys_and_loses_nothing_at_the_switch(home):
    """What it logs goes on without a gap until it says that it is off, and from when it says that it is on again."""
    code = """
import logging, time, scoretrace
scoretrace.configure(service="svc", capture_print=False)
log = logging.getLogger("score")
for number in range(60_000):
    log.info("%d", number)
    time.sleep(0.001)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert until(lambda: "svc" in Webservice.list(home) and Webservice("svc", home=home).get_logs(1))
            for _ in range(3):
                scoretrace.update("svc", enable_app_insights=False)
                assert "recording is switched off" in process.stderr.readline()
                scoretrace.update("svc", enable_app_insights=True)
                assert "recording is switched on" in process.stderr.readline()
            last = Webservice("svc", home=home).get_logs(1)
            assert until(lambda: Webservice("svc", home=home).get_logs(1) != last)
        finally:
            process.kill()
            process.stderr.close()
    found = scoretrace.query("traces | project n = toint(message) | order by n asc", source=home).rows
    numbers = [number for (number,) in found]

    assert numbers[0] == 0
    assert sum(after != number + 1 for number, after in itertools.pairwise(numbers)) <= 3


def test_a_request_that_began_before_the_switch_is_recorded(telemetry, items):
    """What was printed in it would belong to nothing otherwise."""

    @scoretrace.request
    def score():
        print("begins")
        scoretrace.update("svc", enable_app_insights=False)
        print("off")

    score()
    scoretrace.request(lambda: print("off"))()

    assert [item.kind for item in items()] == ["trace", "request"]
    assert len({item.operation_id for item in items()}) == 1


def test_a_request_that_began_after_the_switch_is_not_recorded(home, items):
    """However long nobody looked, and from the start of a process."""
    Webservice("svc", must_exist=False).update(enable_app_insights=False)
    with scoretrace.configure(home=home, service="svc"):
        scoretrace.request(lambda: None)()
    other = "import scoretrace, sys; scoretrace.update('svc', enable_app_insights=sys.argv[1] == 'on')"
    subprocess.run([sys.executable, "-c", other, "on"], check=True)
    with scoretrace.configure(home=home, service="svc") as telemetry:
        assert until(telemetry.is_on)
        subprocess.run([sys.executable, "-c", other, "off"], check=True)
        time.sleep(0.6)
        scoretrace.request(lambda: None)()

    assert items() == []


def test_services_come_and_go_while_others_are_switched(home):
    """Neither is disturbed by the other."""
    Webservice("svc", must_exist=False).update(enable_app_insights=True)
    ended = threading.Event()

    def switch():
        times = 0
        while not ended.is_set():
            scoretrace.update("svc", enable_app_insights=True)
            times += 1
        return times

    with ThreadPoolExecutor(1) as pool:
        switched = pool.submit(switch)
        for number in range(30):
            with scoretrace.configure(home=home, service=f"svc{number % 3}", capture_print=False):
                LOG.info("%d", number)
        ended.set()

    assert switched.result() > 0


def test_a_service_that_has_recorded_nothing_yet_is_known(home):
    """One that runs and waits for its first call, and one that only collects."""
    with scoretrace.configure(home=home, service="Waiting"):
        assert Webservice.list() == ["Waiting"]
        scoretrace.update("waiting", enable_app_insights=False)
    scoretrace.Collector(name="model_inputs").collect(pd.DataFrame({"a": [1]}))

    assert Webservice.list() == ["Waiting", "default"]


def test_collecting_is_switched_on_where_it_was_configured_off(home, monkeypatch):
    """As in Azure, where a service is deployed without it."""
    monkeypatch.setenv("AML_MODEL_DC_STORAGE_ENABLED", "false")
    with scoretrace.configure(home=home, service="svc"):
        collector = scoretrace.ModelDataCollector("m", "inputs")
        assert collector.collect([1]) is None
        scoretrace.update("svc", collect_model_data=True)
        assert collector.collect([2]) is not None
        scoretrace.update("svc", collect_model_data=False)
        assert collector.collect([3]) is None

    assert scoretrace.read_model_data(home, designation="inputs").project("column0").fetchall() == [(2,)]


def test_a_switch_leaves_the_other_as_it_is(telemetry):
    """None is unchanged."""
    service = Webservice("svc")
    service.update(enable_app_insights=False)
    service.update(collect_model_data=True)

    assert service.switches() == {"enable_app_insights": False, "collect_model_data": True}


def test_two_who_switch_at_a_time_both_do(telemetry):
    """Neither change undoes the other."""
    service = Webservice("svc")

    def flip(name):
        for number in range(50):
            service.update(**{name: bool(number % 2)})

    names = ["enable_app_insights", "collect_model_data"]
    for name in names:
        service.update(**{name: False})
    threads = [threading.Thread(target=flip, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert service.switches() == dict.fromkeys(names, True)


def test_a_service_that_does_not_exist_is_said_with_the_one_that_was_meant(telemetry):
    """A typing mistake switches nothing."""
    with pytest.raises(ServiceNotFound, match=r"there is no service sbc in .*: did you mean svc\?"):
        scoretrace.update("sbc", enable_app_insights=False)
    with pytest.raises(ServiceNotFound, match="there are svc"):
        Webservice("entirely-different")


def test_a_home_that_does_not_exist_is_said(tmp_path):
    """It is not made."""
    with pytest.raises(ServiceNotFound, match="there is no home"):
        Webservice("svc", home=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_service_is_switched_before_its_first_start(home, items):
    """Where one says that it need not exist yet."""
    Webservice("svc", must_exist=False).update(enable_app_insights=False)
    with scoretrace.configure(home=home, service="svc", capture_print=False):
        LOG.info("off")

    assert items() == []
    assert Webservice.list() == ["svc"]


def test_a_name_is_found_however_it_is_written(home, items):
    """As the folders of telemetry are, in lower case."""
    with scoretrace.configure(home=home, service="Diabetes", capture_print=False):
        scoretrace.update("diabetes", enable_app_insights=False)
        LOG.info("off")
        scoretrace.update("DIABETES", enable_app_insights=True)
        assert until(lambda: LOG.info("on") or items())

    assert {item.message for item in items()} == {"on"}


@pytest.mark.parametrize("call", [{}, {"enable_app_insights": "off"}, {"collect_model_data": 1}])
def test_what_says_neither_on_nor_off_is_refused(telemetry, call):
    """Nothing given, a text, a number; before anything is looked for."""
    with pytest.raises(SettingsError, match=r"enable_app_insights|collect_model_data"):
        scoretrace.update("no such service", **call)


@pytest.mark.parametrize("service", [None, 3, "", object(), ("a", "b", "c"), ["svc"]])
def test_what_is_no_service_is_refused(service):
    """With what may be given."""
    with pytest.raises(SettingsError, match="name of a service"):
        scoretrace.update(service, enable_app_insights=True)


def test_a_file_cut_in_half_is_not_guessed_at(damaged):
    """One switch alone would decide about the other; both replace the file."""
    before = damaged.read_bytes()
    with pytest.raises(ServiceError, match="so collect_model_data is not known: give both"):
        scoretrace.update("svc", enable_app_insights=True)
    with pytest.raises(ServiceError, match="cannot be read"):
        Webservice("svc").switches()
    assert damaged.read_bytes() == before

    scoretrace.update("svc", enable_app_insights=True, collect_model_data=False)
    assert json.loads(damaged.read_text()) == {"enable_app_insights": True, "collect_model_data": False}


def test_a_file_that_cannot_be_written_is_said(telemetry, home):
    """Nothing is switched then."""
    LOG.info("one")
    (home / "state" / "switches").write_text("in the way")
    with pytest.raises(ServiceError, match="cannot be written, nothing is switched"):
        scoretrace.update("svc", enable_app_insights=False)
    assert telemetry.is_on()

    (home / "state" / "switches").unlink()
    (home / "state" / "switches" / "svc.json").mkdir(parents=True)
    with pytest.raises(ServiceError, match="a folder in its place, remove it"):
        scoretrace.update("svc", enable_app_insights=False, collect_model_data=False)


def test_one_who_never_ends_switching_stops_nobody_for_ever(telemetry, home, monkeypatch):
    """It is said after a while."""
    monkeypatch.setattr("scoretrace.switches._LOCK_SECONDS", 0.1)
    scoretrace.update("svc", enable_app_insights=True)
    with (home / "state" / "switches" / ".svc.lock").open("ab") as file:
        assert locks.try_lock(file.fileno())
        with pytest.raises(ServiceError, match="another process"):
            scoretrace.update("svc", enable_app_insights=False)


@pytest.mark.parametrize("kind", [Webservice, AksWebservice, AciWebservice])
def test_a_deploy_configuration_is_plain_data(telemetry, kind):
    """That can be written down, and given to update."""
    configuration = kind.deploy_configuration(enable_app_insights=False, collect_model_data=True)
    assert json.loads(json.dumps(configuration)) == {"enable_app_insights": False, "collect_model_data": True}

    kind("svc").update(**configuration.switches())
    assert kind("svc").switches() == configuration


def test_a_name_that_begins_with_a_dot_is_hidden_from_nobody(home):
    """Folders and files of such names would be."""
    Webservice(".hidden", must_exist=False).update(enable_app_insights=False)

    assert Webservice(".hidden").switches()["enable_app_insights"] is False
    assert len(Webservice.list()) == 1


def test_a_deploy_configuration_holds_what_is_set():
    """By key and by attribute, in copies too."""
    made = AksWebservice.deploy_configuration(cpu_cores=1)
    made.cpu_cores = 2
    made.environment = "not a keyword"

    assert (made["cpu_cores"], made.cpu_cores, made.environment) == (2, 2, "not a keyword")
    assert "environment" not in made
    assert made.copy() == made
    assert type(made.copy()) is type(made)


def test_a_deploy_configuration_says_what_is_wrong_when_it_is_made():
    """And SDK v1 is named where it is needed and missing."""
    with pytest.raises(SettingsError, match="enable_app_insights is 'on'"):
        AksWebservice.deploy_configuration(enable_app_insights="on")
    with pytest.raises(SettingsError, match="use AksWebservice or AciWebservice"):
        Webservice.deploy_configuration().for_sdk()
    with pytest.raises(scoretrace.MissingExtraError, match="pip install azureml-core"):
        AksWebservice.deploy_configuration(cpu_cores=1).for_sdk()
    assert not hasattr(AksWebservice.deploy_configuration(), "memory_gb")


def test_a_deployment_in_azure_needs_its_sdk():
    """The line that installs it is in the message."""
    deployment = (
        "azure:/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
        "/onlineEndpoints/e/deployments/d"
    )
    with pytest.raises(scoretrace.MissingExtraError, match="pip install azure-ai-ml azure-identity"):
        scoretrace.update(deployment, enable_app_insights=True)
    with pytest.raises(ServiceError, match="no id of an online deployment"):
        scoretrace.update("azure:/subscriptions/s", enable_app_insights=True)


def test_logs_are_the_journal_as_lines(telemetry):
    """Prints, logs, requests and exceptions with their stacks, in the order in which they came."""
    print("from init")

    def fail():
        try:
            return {}["k"]
        except KeyError as error:
            raise ValueError("bad row") from error

    @scoretrace.request
    def score():
        LOG.warning("two\nlines")
        try:
            fail()
        except ValueError:
            LOG.exception("failed")

    score()
    lines = Webservice("svc").get_logs().splitlines()

    levels = ["Information", "Information", "Warning", "Error"]
    assert [line[25:37].strip() for line in lines if line[:2] == "20"] == levels
    assert lines[0].endswith("Z Information from init")
    assert "request score 200" in lines[1]
    assert lines[3] == "lines"
    assert "ValueError: bad row" in lines[4]
    assert any("test_services.py" in line for line in lines[5:])
    assert any(line.startswith("  caused by KeyError") for line in lines[5:])


def test_init_has_only_what_belongs_to_no_request(telemetry):
    """As the log of the init container does."""
    print("from init")
    scoretrace.request(lambda: print("from run"))()

    assert [line[25:] for line in Webservice("svc").get_logs(init=True).splitlines()] == ["Information from init"]


def test_logs_are_of_one_service(telemetry, home):
    """Others share the home."""
    LOG.info("mine")
    with scoretrace.configure(home=home, service="other", capture_print=False):
        LOG.info("theirs")

    assert "theirs" not in Webservice("svc").get_logs()
    assert "theirs" in Webservice("other").get_logs()


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.text(st.sampled_from("ab\n"), min_size=1, max_size=6), max_size=12), count=st.integers(0, 30))
def test_the_last_lines_are_the_end_of_all_lines(tmp_path_factory, texts, count):
    """However many rows they are of."""
    home = tmp_path_factory.mktemp("home")
    with scoretrace.configure(home=home, service="svc", capture_print=False, capture_requests=False):
        for text in texts:
            LOG.info(text)
    service = Webservice("svc", home=home, must_exist=False)
    everything = service.get_logs(10_000).split("\n")

    assert len(everything) >= len(texts)
    assert service.get_logs(count) == ("\n".join(everything[-count:]) if count else "")


@pytest.mark.parametrize("count", [-1, "5", 1.5])
def test_a_number_of_lines_that_is_none_is_refused(telemetry, count):
    """Before anything is read."""
    LOG.info("one")
    with pytest.raises(SettingsError, match="num_lines"):
        Webservice("svc").get_logs(count)


def test_the_command_switches_and_says_what_is_on(telemetry, command):
    """On stderr; nothing on stdout."""
    LOG.info("one")
    ended = command("update", "svc", "--app-insights", "off", "--model-data", "on")

    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == "svc: telemetry off, model data on\n"
    assert command("update", "svc", "--app-insights", "on", "-q").stderr == ""
    assert Webservice("svc").switches() == {"enable_app_insights": True, "collect_model_data": True}


def test_the_command_says_what_is_wrong(telemetry, command, damaged):
    """Usage is 2, a service that is not there 4, a file that is damaged 1."""
    assert command("update", "svc").exit_code == 2
    assert command("update", "svc", "--app-insights", "yes").exit_code == 2
    missing = command("update", "sbc", "--app-insights", "on")
    assert (missing.exit_code, "did you mean svc?" in missing.stderr) == (4, True)
    assert "--create" in command("update", "unlike-any", "--app-insights", "on").stderr
    assert "--create" not in command("logs", "unlike-any").stderr
    assert command("logs", "azure:/x").exit_code == 2
    assert command("update", "unlike-any", "--app-insights", "on", "--create").exit_code == 0
    assert command("update", "svc", "--app-insights", "on").exit_code == 1
    assert command("update", "azure:/x", "--app-insights", "on").exit_code == 1
    assert command("update", "azure:/x", "--app-insights", "on", "--create").exit_code == 2
    assert command("logs", "sbc").exit_code == 4


def test_logs_do_not_steer_a_terminal(telemetry, command, monkeypatch):
    """What was printed may come from anybody; in a pipe it is what it was."""
    print("\x1b[2Jgone\ttab")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)

    assert command("logs", "svc").stdout.endswith(" \ufffd[2Jgone\ttab\n")
    assert Webservice("svc").get_logs().endswith("\x1b[2Jgone\ttab")


def test_the_command_shows_logs(telemetry, command):
    """On stdout, as many lines as were asked for."""
    for number in range(3):
        LOG.info("line %d", number)

    assert [line[-6:] for line in command("logs", "svc", "-n", 2).stdout.splitlines()] == ["line 1", "line 2"]


def test_completion_completes_options_services_and_queries(command):
    """The script of each shell is printed, and what it asks for is answered."""
    for shell in ("bash", "zsh", "fish"):
        assert "_SCORETRACE_COMPLETE" in command("completion", shell).stdout
    environment = {**os.environ, "_SCORETRACE_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    Webservice("diabetes", must_exist=False).update(enable_app_insights=True)
    for words, expected in (
        ("scoretrace update --app", "--app-insights"),
        ("scoretrace update dia", "diabetes"),
        ("scoretrace query requests-by", "requests-by-result"),
    ):
        asked = subprocess.run(
            [sys.executable, "-m", "scoretrace"],
            env={**environment, "COMP_WORDS": words},
            capture_output=True,
            text=True,
        )
        assert f"plain,{expected}" in asked.stdout


def test_the_sdks_of_azure_ml_send_what_they_should():
    """azureml-core and azure-ai-ml, in an environment of their own: the tests of `tests/azureml`."""
    if not SDKS.exists():
        message = "there is no environment with the SDKs of Azure ML: `make test` makes it"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    ended = subprocess.run(
        # What the SDKs warn of is theirs.
        [SDKS, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=",
         "tests/azureml"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-6_000:]
    assert " passed" in ended.stdout

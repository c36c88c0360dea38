"""refflow selftest: its verdicts, its table, its exit codes; the whole of it is a recorded run."""

import json
import subprocess
import sys

import pytest

from refflow.cli import main
from refflow.selftest import CLEAN, FAULTS, runner
from refflow.selftest.runner import Place, SelfTest, Verdict, ask, chosen, selftest
from refflow.verification.checks import CHECKS


def verdict(name, failed="", *, sound=False, expected="RT1", error="", warned="", undecided=0, decided=10):
    return Verdict(
        name, "family", sound, tuple(expected.split()), tuple(failed.split()), tuple(warned.split()),
        undecided, decided, error, 0.1,
    )  # fmt: skip


def place(name):
    return Place(next(i for i, fault in enumerate(FAULTS) if name in fault.name))


def test_a_kill_is_a_failed_check_and_nothing_less():
    assert verdict("killed", "RT1").ok
    assert not verdict("warned", warned="RT1").ok
    assert not verdict("crashed", error="it hangs").ok
    assert verdict("sound", sound=True, warned="RT1").ok
    assert not verdict("accused", "RT1", sound=True).ok
    assert not verdict("crashed", sound=True, error="it hangs").ok
    assert not SelfTest("quick", ()).ok


def test_the_table_names_what_matters():
    found = SelfTest("quick", (
        verdict("one", "RT1"), verdict("two", "RT1 LD1"), verdict("odd", "SH"), verdict("left"),
        verdict("good", sound=True), verdict("wronged", "LD2", sound=True, undecided=2, decided=8),
    ))  # fmt: skip
    assert not found.ok
    assert found.kills() == {"RT1": (2, ["one"]), "LD1": (1, []), "SH": (1, ["odd"])}
    assert found.undecided_share() == pytest.approx(0.1)
    text = str(found)
    for words in (
        "3 of 4 faults killed", "SURVIVED     left", "elsewhere    odd: by SH, not RT1", "1 false alarms on 2",
        "FALSE ALARM  wronged: LD2", "10.0 %",
    ):  # fmt: skip
        assert words in text
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["killed"], data["faults"], data["false_alarms"], data["ok"]) == (3, 4, 1, False)


def test_places_are_all_subjects_or_a_third_of_them():
    every = chosen("deep", short=False, seeds=2)
    asked = {check.id for check in CHECKS}
    assert len(every) == sum(bool(f.expected & asked) for f in FAULTS) + 2 * len(CLEAN) == len(set(every))
    short = chosen("standard", short=True, seeds=1)
    assert set(short) < set(every)
    assert 0.3 < len(short) / len(chosen("standard", short=False, seeds=1)) < 0.36


def test_subjects_are_judged_in_processes_as_in_this_one(monkeypatch):
    places = [place("forward's sign in the inverse"), place("both signs flipped"), Place(0, 0), Place(1, 3)]
    monkeypatch.setattr(runner, "chosen", lambda *_: places)
    told = []
    two = selftest("quick", progress=lambda *news: told.append(news))
    one = selftest("quick", processes=1)
    assert [(v.name, v.failed) for v in one.verdicts] == [(v.name, v.failed) for v in two.verdicts]
    assert two.ok
    assert [news[:2] for news in told] == [(i, 4) for i in range(1, 5)]
    assert two.verdicts[3].name.endswith("seed 3")


def test_a_fault_is_killed_by_what_should_kill_it():
    found = ask(place("both signs flipped"), "quick")
    assert set(found.failed) == {"LD1", "LD2"}


@pytest.mark.parametrize("survives", [False, True])
def test_the_command_exits_with_what_it_found(monkeypatch, capsys, tmp_path, survives):
    verdicts = (verdict("one", "" if survives else "RT1"), verdict("good", sound=True))
    monkeypatch.setattr(runner, "selftest", lambda level, **_: SelfTest(level, verdicts))
    monkeypatch.setattr(sys, "argv", ["refflow", "selftest", "--short", "--json", str(tmp_path / "s.json")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert (stop.value.code or 0) == int(survives)
    assert f"{1 - survives} of 1 faults killed at level standard" in capsys.readouterr().out
    assert json.loads((tmp_path / "s.json").read_text())["ok"] is not survives


@pytest.mark.deep
def test_the_short_form_finds_no_false_alarm():
    found = subprocess.run(
        [sys.executable, "-m", "refflow", "selftest", "--short"], capture_output=True, text=True, check=False
    )
    assert "0 false alarms" in found.stdout, found.stdout
    assert found.returncode == 0, found.stdout

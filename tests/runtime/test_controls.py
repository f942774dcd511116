"""Settings that change while frames go on."""

from __future__ import annotations

import sys
import threading

import pytest

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.controls import Controls, Settings
from ovs_edge.runtime.draw.overlay import Style


def test_a_change_replaces_the_whole_value() -> None:
    heard: list[Settings] = []
    controls = Controls(Settings(0.3, Style()), heard.append)
    before = controls.settings
    after = controls.change(threshold=0.5, opacity=0.1, hidden=["sky"], colours={"cat": (1, 2, 3)}, names=False)
    assert controls.settings is after and heard == [after] and before.threshold == 0.3 and not before.style.hidden
    assert (after.threshold, after.style.opacity, after.style.names) == (0.5, 0.1, False)
    assert after.style.hidden == {"sky"} and after.style.colours == {"cat": (1, 2, 3)}
    later = controls.change(colours={"dog": (4, 5, 6), "cat": None})
    assert later.style.colours == {"dog": (4, 5, 6)} and later.style.hidden == {"sky"}
    assert controls.change(hidden=()).style.hidden == frozenset()


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"opacity": -1.0},
        {"hidden": ["x" * 301]},
        {"hidden": [str(number) for number in range(2000)]},
    ],
)
def test_a_value_out_of_range_changes_nothing(bad: dict[str, object]) -> None:
    controls = Controls(Settings(0.3, Style()))
    before = controls.settings
    with pytest.raises(UsageError):
        controls.change(**bad)  # type: ignore[arg-type]
    assert controls.settings is before


def test_colours_do_not_pile_up() -> None:
    controls = Controls(Settings(0.3, Style()))
    for start in range(0, 4000, 1000):
        controls.change(colours={f"name {number}": (0, 0, 0) for number in range(start, start + 1000)})
    kept = controls.style.colours
    assert len(kept) <= 1024 and "name 3999" in kept and "name 0" not in kept


def test_changes_from_many_threads_are_all_kept() -> None:
    controls = Controls(Settings(0.3, Style()))

    def work(number: int) -> None:
        for step in range(50):
            controls.change(colours={f"{number} {step}": (number, step, 0)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(controls.style.colours) == 400


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--classes", "red", "--watch-classes", "list.txt"], "both of --classes and --watch-classes"),
        ([], "neither of --classes and --watch-classes"),
        (["--watch-classes", "no-such-list"], "cannot read the list"),
        (["--classes", "red", "--preset", "@no-such-file"], "cannot read the list"),
        (["--classes", "red", "--web", "here:there"], "HOST:PORT"),
        (["--classes", "red", "--web", "--token", "short"], "the token has 5 characters"),
    ],
)
def test_options_that_make_no_sense(
    tiny_bundle: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["ovs-run", "--model", str(tiny_bundle), "--source", "demo", *arguments])
    with pytest.raises(SystemExit) as exit:
        main()
    error = capsys.readouterr().err
    assert exit.value.code == 2 and says in error and error.count("\n") == 1

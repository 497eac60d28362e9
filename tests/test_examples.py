"""Examples that assert what is left or guaranteed, or that pages show, run as a reader does, but smaller."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


SMALLER = {"plot_certificates": ["--epochs", "10", "--rows", "20"]}


@pytest.mark.parametrize("name", ["plot_pipeline_forget", "plot_text_forget", "plot_certificates"])
def test_the_example_runs(name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", [name, *SMALLER.get(name, ["--seeds", "1"]), "--output", str(picture)])
    drawn = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")
    drawn["plt"].close("all")
    assert picture.exists()


def test_the_example_of_several_processes_runs_in_one(monkeypatch, capsys):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    runpy.run_path(str(EXAMPLES / "several_processes.py"), run_name="example")
    assert "1 processes forgot 2 rows; 567 are left" in capsys.readouterr().out


def test_thumbnails_are_those_of_their_script():
    pictures = EXAMPLES.parent / "docs" / "pictures" / "thumbnails.py"
    for name, drawn in runpy.run_path(str(pictures))["pictures"]().items():
        assert (EXAMPLES.parent / "docs" / "_static" / name).read_text(encoding="utf-8") == drawn, name
        assert f"_static/{name}" in (EXAMPLES / name).with_suffix(".py").read_text(encoding="utf-8")

"""The notebooks run as they are, install Equipoise as the README says, and show what their texts promise."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
import nbformat  # noqa: E402

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
HOLDS = {
    "first_diagnosis": """
assert monitor.verdicts["text"].state == found.verdicts["text"].state == "over-trained"
assert monitor.verdicts["image"].state != "over-trained"
assert same
assert found.contributions["image"].shapley > 10 * abs(found.contributions["text"].shapley)
assert after.last["text"].gap < 0.67 * monitor.last["text"].gap
""",
    "comparing_cures": """
assert list(table.index) == ["joint", "multi-loss", "diagnose-relearn"]
assert (abs(table["mean"] - 0.91) < 0.05).all()
assert (table["low"].iloc[1:] < 0).all() and (table["high"].iloc[1:] > 0).all()
assert Path("comparison/report.html").is_file()
assert all(state.applied < 0.5 for state in run.relearnings[0].values())
""",
    "embeddings_in_files": """
assert state["wrist"].train_score > state["sound"].train_score + 0.05
assert all(one.interval[0] < 0 < one.interval[1] for one in state.values())
own = found.contributions
assert own.score > max(one.alone for one in own.values()) + 0.05
assert min(one.shapley for one in own.values()) > 0.1
import os
assert os.path.getsize("diagnosis.html") > 100_000
""",
}
"""What the texts of a notebook say that one should see, as a last cell."""
FIRST = "first_diagnosis"
NAMES = [FIRST, *(pytest.param(name, marks=pytest.mark.matrix) for name in sorted(HOLDS.keys() - {FIRST}))]


def read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_of(name: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(HOLDS)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_shows_what_its_text_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):  # not the user's own
        monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(HOLDS[name]))
    nbclient.NotebookClient(
        notebook,
        timeout=200,
        startup_timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("data:image/svg+xml" in output.get("data", {}).get("text/html", "") for output in shown)
    said = [output.text for output in shown if output.get("name") == "stderr"]
    assert not [text for text in said if "IProgress not found" not in text]  # of tqdm, without ipywidgets


@pytest.mark.parametrize("name", sorted(HOLDS))
def test_it_is_stored_without_outputs(name: str) -> None:
    """Pictures would change with each version, and last decimals with each processor."""
    cells = read(name)["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("name", sorted(HOLDS))
def test_it_opens_on_colab_and_installs_as_the_readme_says(name: str) -> None:
    first = "".join(read(name)["cells"][0]["source"])
    assert "](https://colab.research.google.com/github/)" in first
    assert f"`notebooks/{name}.ipynb`" in first
    assert code_of(name)[0] == code_of(FIRST)[0]  # one way to install
    (installs,) = re.findall(r"!(pip install .*)", code_of(name)[0])
    (readme,) = re.findall(
        r"^pip install .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    in_clone = [word.replace("source/", "").replace("source[", ".[") for word in shlex.split(installs)]
    assert [word for word in in_clone if word != "--quiet"] == shlex.split(readme)

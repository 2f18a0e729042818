"""Each example runs. Re-learning adds a few lines to a loop, and at strength 0 it changes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from processes import python, torchrun

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {"lightning": "lightning", "huggingface": "transformers", "two_processes_accelerate": "accelerate"}
TWICE = ("ddp", "two_processes_accelerate")
"""Examples that run in two processes."""
LOOPS = ("pytorch", "lightning", "huggingface", "regression", *TWICE)
MARK = "# D&R"
SAYS = {
    "any_method": r"coefficient/sound(.|\n)*ogm-ge: test accuracy 0\.[89]",
    "pytorch": r"learning state by purity(.|\n)*test accuracy 0\.[89]",
    "ddp": r"learning state by purity(.|\n)* 832 (.|\n)*test accuracy 0\.[89]",
    "two_processes_accelerate": r"learning state by purity(.|\n)* 832 (.|\n)*test accuracy 0\.[89]",
    "lightning": r"val_accuracy +│ +0\.[89]",
    "huggingface": r"'equipoise/strength/text': 0\.",
    "regression": r"learning state by ridge-r2(.|\n)*test R2 0\.[2-6]",
    "embeddings": r"upper: gap -?0\.\d+ \[(.|\n)*lower: gap",
    "monitor": r"equipoise/gap/wrist(.|\n)*5 looks took(.|\n)*sound: not over-trained(.|\n)*watch\.html",
    "three_modalities": r"diagnose-relearn +0\.\d+",
}


def written(name: str, source: str, folder: Path) -> Path:
    """Write source code as `NAME.py` into the given folder; skip the test if a package is missing."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    script = folder / f"{name}.py"
    script.write_text(source, encoding="utf-8")
    return script


def run(name: str, source: str, folder: Path) -> str:
    """Run source code as `NAME.py` in the given folder; return its output."""
    script = written(name, source, folder)
    processes = torchrun(script, cwd=folder) if name in TWICE else [python(script, cwd=folder)]
    for ended in processes:
        assert ended.returncode == 0, ended.stderr[-2000:]
    return "".join(ended.stdout for ended in processes)


def source_of(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["ddp", pytest.param("two_processes_accelerate", marks=pytest.mark.matrix)])
def test_an_example_of_two_processes_runs_in_one_as_well(name: str, tmp_path: Path) -> None:
    """Without torchrun, as a newcomer starts it."""
    ended = python(written(name, source_of(name), tmp_path), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert re.search(SAYS[name].replace(r" 832 (.|\n)*", ""), ended.stdout)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)
    assert all(len(source_of(name).splitlines()) < 100 for name in SAYS)
    assert all(f"\n    python examples/{name}.py" in source_of(name) for name in SAYS)


NEW = ("two_processes_accelerate",)
REST = [pytest.param(name, marks=pytest.mark.matrix) for name in sorted(SAYS.keys() - set(NEW))]


@pytest.mark.parametrize("name", [*NEW, *REST])
def test_it_runs_unchanged_in_a_new_interpreter(name: str, tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if name in TWICE else []
    command = [sys.executable, *launch, written(name, source_of(name), tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(SAYS[name], done.stdout)


@pytest.mark.parametrize("name", sorted(SAYS.keys() - set(LOOPS)))
def test_it_runs_and_prints_the_expected_output(name: str, tmp_path: Path) -> None:
    source = source_of(name).replace("epochs=9,", "epochs=2, workers=1,")  # a comparison
    assert re.search(SAYS[name], run(name, source, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in LOOPS if name not in TWICE),
        *(pytest.param(name, marks=pytest.mark.matrix) for name in LOOPS if name in TWICE),
    ],
)
def test_a_few_lines_are_added_and_strength_zero_changes_no_bit(name: str, tmp_path: Path) -> None:
    whole = source_of(name)
    lines = whole.splitlines(keepends=True)
    added = [line for line in lines if line.rstrip().endswith(MARK)]
    assert 0 < len(added) <= 5
    kept = "Path('weights' + os.environ.get('RANK', '0') + '.pt')"
    keeping = f"import os; from pathlib import Path; torch.save(main().state_dict(), {kept})\n"
    found = []
    for case, text in (
        ("without", "".join(line for line in lines if line not in added)),
        ("zero", whole.replace("lam=3.0", "lam=0.0")),
        ("with", whole),
    ):
        folder = tmp_path / case
        folder.mkdir()
        said = run(name, text.replace("    main()\n", f"    {keeping}"), folder)
        assert case != "with" or re.search(SAYS[name], said)
        weights = [torch.load(path, weights_only=True) for path in sorted(folder.glob("weights*.pt"))]
        assert len(weights) == 1 + (name in TWICE)
        assert all(torch.equal(value, weights[-1][key]) for key, value in weights[0].items())
        found.append(weights[0])
    without, zero, changed = found
    assert all(torch.equal(value, zero[key]) for key, value in without.items())
    assert not all(torch.equal(value, changed[key]) for key, value in without.items())


@pytest.mark.parametrize("name", ["pytorch", "lightning", "huggingface", *TWICE])
def test_the_page_shows_the_added_lines(name: str) -> None:
    docs = EXAMPLES.parent / "docs"
    pages = [docs / "integrations.md", *sorted((docs / "integrations").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    block = re.search(rf"`examples/{name}\.py`:\n\n```diff\n(.*?)```", text, re.DOTALL)
    assert block is not None
    shown = [line[1:].strip() for line in block[1].splitlines() if line.startswith("+")]
    marked = [line for line in source_of(name).splitlines() if line.endswith(MARK)]
    assert shown == [line.removesuffix(MARK).strip() for line in marked]

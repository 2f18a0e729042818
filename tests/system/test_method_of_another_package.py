"""One file and an entry point add a method: it is listed, trained, compared and combined like others."""

from __future__ import annotations

from pathlib import Path

import synthetic
from processes import python

METHOD = '''
from dataclasses import dataclass

from equipoise.methods import Method


@dataclass
class Doubled(Method):
    """Doubles the joint loss."""

    factor: float = 2.0

    name = "doubled"
    family = "objective"
    summary = "the joint loss, doubled"
    source = "a test"
    replaces_loss = True

    def losses(self, context):
        return {"doubled": self.factor * super().losses(context)["joint"]}
'''


def test_it_works_like_a_built_in_method(tmp_path: Path) -> None:
    (tmp_path / "their_package.py").write_text(METHOD)
    information = tmp_path / "their_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[equipoise.methods]\ndoubled = their_package:Doubled\n")
    data = synthetic.write(tmp_path / "data")

    def equipoise(*words: str) -> str:
        done = python("-m", "equipoise", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "the joint loss, doubled" in equipoise("list", "methods")
    common = ["--data", str(data.path), "--epochs", "2", "--batch-size", "32", "--workers", "1"]
    methods = ["joint", "doubled", "doubled+diagnose-relearn"]
    out = ["--out", str(tmp_path / "out"), "--set", "doubled.factor=3"]
    printed = equipoise("compare", "--methods", *methods, "--seeds", "3", *common, *out)
    assert all(method in printed for method in methods)
    assert "not ranked:" not in printed

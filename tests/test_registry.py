"""Entries found in a package's modules and through entry points."""

from __future__ import annotations

import sys
import textwrap
from types import SimpleNamespace

import pytest

from equipoise import registry as registry_module
from equipoise.registry import Registry
from equipoise.types import EquipoiseError, UnknownNameError


class Animal:
    name = ""


Animal.__module__ = "registry_test_base"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules into a package called `zoo`; they find `Animal` in `registry_test_base`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "registry_test_base", SimpleNamespace(Animal=Animal))
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "__init__.py").write_text("")

    def write(**modules):
        for name, text in modules.items():
            header = "from registry_test_base import Animal\n"
            (tmp_path / "zoo" / f"{name}.py").write_text(header + textwrap.dedent(text))

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "zoo"]:
        del sys.modules[name]


def zoo():
    return Registry("animal", Animal, "zoo", "equipoise.test_zoo")


DOG = "class Dog(Animal):\n    name = 'dog'\n"


def test_entries_are_classes_with_their_own_name(package):
    package(
        wolf="class Wolf(Animal):\n    name = 'wolf'\n",
        dog=DOG + "class Unnamed(Dog):\n    pass\nclass Other:\n    name = 'other'\n",
        again="from zoo.dog import Dog\n",
    )
    animals = zoo()
    assert list(animals) == ["dog", "wolf"]
    assert len(animals) == 2
    assert animals["dog"].__name__ == "Dog"
    assert "dog" in animals
    assert "cat" not in animals
    with pytest.raises(UnknownNameError, match="unknown animal 'dgo': did you mean dog"):
        animals["dgo"]
    with pytest.raises(UnknownNameError, match="unknown animal 'xyzzy': known: dog, wolf"):
        animals["xyzzy"]


def test_nothing_is_imported_before_the_first_lookup(package):
    package(dog="raise RuntimeError('too early')\n")
    animals = zoo()
    with pytest.raises(RuntimeError, match="too early"):
        list(animals)


def entry_points(monkeypatch, *values):
    def find(*, group):
        assert group == "equipoise.test_zoo"
        return [SimpleNamespace(load=lambda value=value: value) for value in values]

    monkeypatch.setattr(registry_module, "entry_points", find)


def test_entry_points_are_added(package, monkeypatch):
    package(dog=DOG)
    entry_points(monkeypatch, type("Cat", (Animal,), {"name": "cat"}))
    assert list(zoo()) == ["cat", "dog"]


def test_duplicate_names_are_refused(package, monkeypatch):
    package(dog=DOG)
    entry_points(monkeypatch, type("Impostor", (Animal,), {"name": "dog"}))
    with pytest.raises(EquipoiseError, match="two animals have the name 'dog'"):
        list(zoo())


@pytest.mark.parametrize("value", [3, type("Stone", (), {"name": "stone"}), Animal])
def test_invalid_entry_points_are_refused(package, monkeypatch, value):
    package(dog=DOG)
    entry_points(monkeypatch, value)
    with pytest.raises(EquipoiseError, match="expected a class derived from Animal with a 'name'"):
        list(zoo())

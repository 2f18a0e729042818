"""What a file of a record holds is a mapping as any other, but for a missing entry."""

import copy
import json
import pickle

import pytest
import yaml

import equipoise as eq
from equipoise.files.held import Held

VALUES = {"method": "mla", "options": {"weights": {}, "order": [{"first": "audio"}]}}


@pytest.mark.parametrize(
    "through",
    [
        lambda held: yaml.safe_load(yaml.safe_dump(held)),
        lambda held: json.loads(json.dumps(held)),
        lambda held: pickle.loads(pickle.dumps(held)),
        copy.deepcopy,
        lambda held: held | {},
    ],
)
def test_it_is_written_and_copied_as_what_it_holds(through):
    assert through(Held(VALUES, "result.json", "Restore it.")) == VALUES


def test_a_missing_entry_names_file_and_place():
    held = Held(VALUES, "result.json", "Restore it.")
    with pytest.raises(eq.RunFolderError, match=r"result\.json has no 'alpha' in 'options'\. Restore it\."):
        held["options"]["alpha"]
    with pytest.raises(eq.RunFolderError, match="result.json has no 'last' in 'order'"):
        held["options"]["order"][0]["last"]

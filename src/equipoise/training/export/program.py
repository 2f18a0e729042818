"""A model as a program of torch's operators, and that as a model of ONNX."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.models import BalancedModel
from equipoise.models.averaged import CopiesModel
from equipoise.types import EquipoiseError, ModelError

BATCH: Final = "batch"
LONGEST: Final = 200
"""Characters of another library's message that are repeated."""


class _Logits(nn.Module):
    def __init__(self, model: BalancedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.model(inputs).logits
        return logits


def traced(model: BalancedModel, inputs: Mapping[str, Tensor]) -> ExportedProgram:
    """Return the program of a model, from `{m: [B, ...]}` to logits `[B, C]` for any `B`.

    What does not depend on tensors is decided as for `inputs`; masks of sequences and tokens do depend on
    them. It does not check whether tokens are in the vocabulary.

    Args:
        model: on the CPU.
        inputs: at least two samples, in the order of the model's modalities.

    Raises:
        ModelError: the model does what no such program can.
    """
    settled = deepcopy(model).eval().requires_grad_(False)
    for part in settled.modules():
        if isinstance(part, CopiesModel):
            part.settle()
    batch = Dim(BATCH, min=1)
    with _quiet(), _plain_attention(), torch.no_grad(), _blamed("as a program of torch"):
        return torch.export.export(
            _Logits(settled),
            (dict(inputs),),
            dynamic_shapes=({m: {0: batch} for m in inputs},),
            strict=False,  # a model of the user's may do what only Python can
        )


def as_onnx(program: ExportedProgram, inputs: Sequence[str], output: str, metadata: Mapping[str, str]) -> Any:
    """Return a program as a model of ONNX (`onnx.ModelProto`), with named inputs and a free batch axis.

    Raises:
        MissingExtraError: a package is missing.
        ModelError: ONNX does not have what the program does.
    """
    with needing("onnx", "onnx", "an export to ONNX"):
        import onnx  # noqa: F401
    with needing("onnxscript", "onnx", "an export to ONNX"):
        import onnxscript  # noqa: F401
    with _quiet(), _plain_attention(), torch.no_grad(), _blamed("to ONNX"):
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=({m: {0: BATCH} for m in inputs},),
            verbose=False,
        )
        if written is None:
            raise ModelError("torch returned no model")
        written.model.metadata_props.update(metadata)
        return written.model_proto


@contextmanager
def _blamed(how: str) -> Iterator[None]:
    """Say in one line that a model cannot be exported, whatever torch raises."""
    try:
        yield
    except EquipoiseError as error:
        raise ModelError(f"this model cannot be exported {how} ({error}); {_ADVICE}") from error
    except Exception as error:  # torch raises many kinds
        check_machine(error)
        found = f"{type(error).__name__}: {first_line(error)}"
        shown = found if len(found) <= LONGEST else f"{found[:LONGEST]}..."
        raise ModelError(f"this model cannot be exported {how} ({shown}); {_ADVICE}") from error


_ADVICE: Final = "--format safetensors takes the weights of every model."


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch prints, logs and warns of while it traces to itself; an error says what is wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention by its own operators, not by the one for all that only torch has."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)

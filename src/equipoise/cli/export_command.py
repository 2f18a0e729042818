"""`equipoise export`."""

from __future__ import annotations

from pathlib import Path

from equipoise.cli.arguments import check_report
from equipoise.cli.progress import waiting
from equipoise.cli.tables import output_console, print_plain
from equipoise.types import check_known


def export_command(
    run_dir: Path,
    /,
    *,
    format: str = "safetensors",
    out: Path | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Write the model of a finished run in a format of others, compared with it on validation samples.

    Args:
        run_dir: folder of a finished run, or of a model that `save_pretrained` has written.
        format: `safetensors` (weights by name), `onnx` (with named inputs, for ONNX Runtime and others) or
            `pt2` (a program of torch.export). The file says modalities, shapes, classes and normalisation.
        out: the file. Default: `exported.FORMAT` in the folder.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.training.export.export import FORMATS, TOLERANCE, export_run
    from equipoise.training.pretrained import read_trained
    from equipoise.training.record.names import EXPORTED

    check_known("format", [format], FORMATS)
    path = run_dir / f"{EXPORTED}.{format}" if out is None else out
    with waiting(f"reading {run_dir}"):
        run = read_trained(run_dir).used()
    check_report(path, overwrite)
    with waiting(f"writing {path}"):
        found = export_run(run, path, format)
    console = output_console()
    of = "validation samples" if found.of_validation else "random samples"
    print_plain(console, f"{run.summary['method']} on {run.summary['dataset']}")
    print_plain(
        console,
        f"logits differ by at most {found.difference:.1e} on {found.samples} {of} (allowed: {TOLERANCE:g})",
    )
    print_plain(console, f"\n{found.path}")

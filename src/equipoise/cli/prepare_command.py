"""`equipoise prepare`: one command for each dataset that is made from files, with its own options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter as Argument
from inspect import Signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import TaskID

from equipoise.cache import cache_folder, remember
from equipoise.cli.arguments import SomeWords, Whole
from equipoise.cli.progress import ProgressBar, waiting
from equipoise.cli.tables import make_table, output_console, print_plain, progress_console
from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.format.modality import NORMALIZATIONS
from equipoise.data.format.prepared import PreparedDataset
from equipoise.data.prepare.clips import Lost
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.images import pillow
from equipoise.data.prepare.summary import SHOWN, LostSamplesError, Summary
from equipoise.types import UsageError, check_known

ROWS = 12
"""Classes up to which the table at the end shows each; of more it shows the sum only."""


@Parameter(name="*")
@dataclass(kw_only=True)
class PrepareOptions:
    """Options that all datasets share.

    Attributes:
        source: the folder (or file) that was downloaded.
        out: folder of the prepared dataset. Default: one of its name in the user's cache folder.
        workers: processes that decode. Default: one for each core.
        allow_missing: accept that more than 1 % of the samples cannot be used.
        overwrite: replace the prepared dataset in the folder.
        normalize: `clip` gives each sequence, image or video the mean 0 and the deviation 1 by itself, `none`
            leaves values as they are, `standard` goes by the training split; one word for all modalities, or
            MODALITY=WORD for some. Default: that of the dataset, mostly `standard`.
        preview: write preview.html into the folder, a page that shows training samples, lengths and classes.
        config: YAML file with options by name.
    """

    source: Path
    out: Path | None = None
    workers: Whole | None = None
    allow_missing: bool = False
    overwrite: bool = False
    normalize: SomeWords | None = None
    preview: bool = False
    config: Path | None = None


class ClipBar(ProgressBar):
    """A progress bar over the samples of a dataset; an `Observer` of its preparation."""

    def __init__(self) -> None:
        super().__init__("samples", progress_console())
        self._line: TaskID | None = None
        self._lost = 0

    def planned(self, total: int, done: int) -> None:
        """Show the bar; samples that an earlier call has read count as done."""
        self._line = self._bar.add_task("", total=total, completed=done)
        self._start()

    def advanced(self, done: int, lost: int) -> None:
        """Move the bar."""
        assert self._line is not None
        self._lost += lost
        self._update(self._line, advance=done, description=f"{self._lost} lost" if self._lost else "")


def _run(dataset: SourceDataset, options: PrepareOptions) -> int:
    source = options.source.expanduser()
    folder = options.out or cache_folder() / "prepared" / dataset.name
    normalize = _normalization(options.normalize)
    if options.preview:
        pillow("the pictures of --preview")  # its lack is said before the work
    try:
        with waiting(f"reading what {source} holds"):
            plan = dataset.planned(source)
        with ClipBar() as bar:
            done = prepare(
                plan,
                folder,
                workers=options.workers,
                isolated=True,
                allow_missing=options.allow_missing,
                overwrite=options.overwrite,
                observer=bar,
                normalize=normalize,
            )
    except LostSamplesError as error:
        if len(error.lost) > SHOWN:  # fewer are in the message of the error
            _show_lost(progress_console(), error.lost)
        raise
    remember(dataset.name, done.dataset.path)
    page = _preview(done.dataset) if options.preview else None
    _show(done.summary, str(folder), page)
    return 0


def _normalization(words: Sequence[str] | None) -> Mapping[str, str] | str | None:
    """Return one word for all modalities, or modality to word."""
    if words is None:
        return None
    pairs = [word.rpartition("=") for word in words]
    check_known("normalisation", [word for _, _, word in pairs], NORMALIZATIONS)
    if len(words) == 1 and words[0] in NORMALIZATIONS:
        return words[0]
    if wrong := [word for word, (name, _, _) in zip(words, pairs, strict=True) if not name]:
        raise UsageError(f"normalize has {wrong[0]!r}; expected MODALITY=WORD, or one word for all.")
    return {name: word for name, _, word in pairs}


def _preview(dataset: PreparedDataset) -> Path:
    from equipoise.report import write_preview

    with waiting(f"writing the preview of {dataset.path}"):
        return write_preview(dataset)


def _show(summary: Summary, folder: str, page: Path | None) -> None:
    console = output_console()
    columns = list(next(iter(summary.counts.values())))
    rows = [[name, *(str(row[column]) for column in columns)] for name, row in summary.counts.items()]
    sums = [str(sum(row[column] for row in summary.counts.values())) for column in columns]
    shown = rows if len(rows) <= ROWS else []
    console.print(make_table(["class", *columns], [*shown, [f"{len(rows)} in all", *sums]]))
    speed = f", {summary.read / summary.seconds:.0f} a second" if summary.read and summary.seconds else ""
    print_plain(
        console,
        f"\n{summary.total} samples, {summary.size / 2**20:.1f} MiB; {summary.read} read in "
        f"{summary.seconds:.1f} s{speed}",
    )
    for note in summary.notes:
        print_plain(console, f"note: {note}")
    if summary.lost:
        print_plain(console, f"{len(summary.lost)} samples are not in the dataset:")
        _show_lost(console, summary.lost)
    places = f"{folder}\n{page}" if page else folder
    print_plain(console, f"\n{places}\nNext: equipoise compare --data {folder}")


def _show_lost(console: Console, lost: Sequence[Lost]) -> None:
    for one in lost:
        print_plain(console, f"  {one.message}")


def _command(kind: type[SourceDataset]) -> Callable[..., int]:
    """Return the command of a dataset, with the fields of its class as options."""

    def command(*, options: PrepareOptions, chosen: SourceDataset | None = None) -> int:
        return _run(chosen or kind(), options)

    # Annotations of inherited fields are strings that only the module of the base class can evaluate.
    init: Any = kind.__init__
    hints = get_type_hints(kind, include_extras=True)
    init.__annotations__ |= {name: hints[name] for name in init.__annotations__ if name in hints}
    own: Any = Annotated[kind | None, Parameter(name="*")]
    arguments = [
        Argument("options", Argument.KEYWORD_ONLY, annotation=PrepareOptions),
        Argument("chosen", Argument.KEYWORD_ONLY, default=None, annotation=own),
    ]
    command.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    command.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    command.__doc__ = (
        f"Prepare {kind.description}.\n\nExpected in the source: {kind.expected}.\n\n"
        f"Download: {kind.source} ({kind.size}). Licence: {kind.licence}."
    )
    return command


def _app() -> App:
    app = App(
        name="prepare",
        help="Turn a downloaded dataset into the prepared format.",
        default_parameter=Parameter(negative=(), consume_multiple=True),
    )
    for name, kind in DATASETS.items():
        if issubclass(kind, SourceDataset):
            app.command(_command(kind), name=name)
    return app


prepare_command = _app()

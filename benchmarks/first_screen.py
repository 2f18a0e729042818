"""Diagnose a network before and after the cure, and write what the first screens show of it.

Usage: python benchmarks/first_screen.py SOURCE RUNS_DIR

SOURCE is the folder of the archive of AVLetters. The network reads letters from sound and lips, and the sound
carries noise; its settings and seeds are those of the league. The picture is docs/images/cure.svg; in each
page the text stands between two marks, and is replaced.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import altair as alt
import pandas as pd

import equipoise as eq
from equipoise.decimals import fixed
from equipoise.experiments.compare.statistics import paired_difference
from equipoise.experiments.paper.sets import Sources
from equipoise.files.whole import write_atomically
from equipoise.report.charts.look import GRID, INK, PALETTE, layered, source
from equipoise.report.render import file_bytes

SEEDS = (10, 11, 12, 13, 14, 15)
JOINT, CURE = "joint", "diagnose-relearn-plus"
SETTINGS = {"split_seed": "run", "diagnose_every": 0, "checkpoint_every": 10_000}
PAGES = {Path("README.md"): "docs/", Path("docs/index.md"): ""}
"""Page to the folder of the documentation as its links see it."""
LEAGUE = Path("docs/results/league/avletters-noisy.csv")
PICTURE = Path("docs/images/cure.svg")
START, END = "<!-- written by make first-screen -->", "<!-- until here -->"


def measured(source_dir: Path, folder: Path) -> tuple[pd.DataFrame, dict[int, eq.Examination]]:
    """Return a row for each run and modality, and the examinations of joint training by seed."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = Sources(
        source_dir, True, folder / "sets", None, lambda what: nullcontext(print(what, flush=True))
    )
    data = sources.data("avletters", {"audio": 2.0})
    out = folder / "runs"
    eq.compare(data, [JOINT, CURE], seeds=SEEDS, out=out, resume=out.exists(), workers=1, **SETTINGS)
    results = pd.read_csv(out / "results.csv").set_index(["method", "seed"])
    rows, before = [], {}
    for method in (JOINT, CURE):
        for seed in SEEDS:
            found = eq.examine_run(out / "runs" / f"{method}-seed{seed}", pictures=False)
            if method == JOINT:
                before[seed] = found
            test = results.loc[(method, seed), "test_accuracy"]
            for name, verdict in found.verdicts.items():
                alone = found.contributions[name].alone
                rows.append((method, seed, name, verdict.state, alone, test))
    return pd.DataFrame(rows, columns=["method", "seed", "modality", "verdict", "alone", "test"]), before


def drawing(rows: pd.DataFrame) -> alt.LayerChart:
    """Draw the accuracy with one modality and with both, before and after: runs as dots, means as lines."""
    test = rows.drop_duplicates(["method", "seed"])
    shown = [(f"{name} only", row.method, row.alone) for row in rows.itertuples() for name in [row.modality]]
    shown += [("both", row.method, row.test) for row in test.itertuples()]
    labels = {JOINT: "joint training", CURE: CURE}
    points = [{"what": what, "method": labels[method], "x": 100 * x} for what, method, x in shown]
    means = pd.DataFrame(points).groupby(["what", "method"], as_index=False)["x"].mean()
    order = ["audio only", "video only", "both"]
    color = alt.Color(
        "method:N",
        scale=alt.Scale(domain=list(labels.values()), range=[INK, PALETTE[0]]),
        legend=alt.Legend(title=None, orient="top", columnPadding=40),  # fonts of readers may be wider
    )
    axis = alt.Axis(title="letters read right, % (chance 3.8)", grid=True, gridColor=GRID)
    x = alt.X("x:Q", axis=axis, scale=alt.Scale(domain=[0, 100]))
    y = alt.Y("what:N", sort=order, axis=alt.Axis(title=None, labelFontSize=13, ticks=False, domain=False))
    side = alt.YOffset("method:N", sort=list(labels.values()))
    dots = source(points).mark_point(filled=True, size=45, opacity=0.5).encode(x, y, side, color)
    base = source(means.to_dict("records"))
    ticks = base.mark_tick(thickness=3, size=16).encode(x, y, side, color)
    texts = base.mark_text(align="right", fontSize=13, fontWeight="bold")
    texts = texts.encode(alt.XValue(460), y, side, color, text=alt.Text("x:Q", format=".0f"))
    return layered(dots, ticks, texts, height=210).properties(width=460)


def words(rows: pd.DataFrame, before: dict[int, eq.Examination], docs: str) -> str:
    """Say what was found, and what changed."""
    by = rows.groupby(["method", "modality"])["alone"].mean() * 100
    test = rows.drop_duplicates(["method", "seed"]).pivot(index="seed", columns="method", values="test")
    gain = paired_difference(list(test[CURE]), list(test[JOINT]))
    verdicts = before[SEEDS[0]].verdicts.values()
    said = [f"> - **{one.modality}: {one.state}.** {' '.join(one.reasons)}" for one in verdicts]
    own = rows[rows["method"] == JOINT]
    over = (own[own["modality"] == "audio"]["verdict"] == "over-trained").sum()
    low, high = (fixed(100 * end, 1, signed=True) for end in (gain.low, gain.high))
    return "\n".join(
        [
            "A network reads letters from sound and lips (AVLetters), with noise added to the sound. What "
            "`equipoise diagnose` says of it:",
            "",
            *said,
            "",
            f"The noise was memorised (so in {over} of {len(SEEDS)} trainings), and as that explains "
            "the training samples, the network learns less from the lips. "
            f"`--method {CURE}` resets what was memorised: with the video only, the network reads "
            f"{by[CURE, 'video']:.0f} % of the letters instead of {by[JOINT, 'video']:.0f} %, with both "
            f"{100 * test[CURE].mean():.0f} % instead of {100 * test[JOINT].mean():.0f} %, "
            f"{fixed(100 * gain.mean, 1, signed=True)} points [{low}, {high}]. The simplest remedy, "
            f"multi-loss, reaches {100 * simplest():.0f} %.",
            "",
            f"![Letters read right with each and with both, before and after]({docs}images/{PICTURE.name})",
            "",
            f"Dots are {len(SEEDS)} trainings, lines and numbers their means: with one modality on "
            "validation samples, with both on test samples.",
        ]
    )


def simplest() -> float:
    """Return the mean accuracy of multi-loss in the league, whose runs on this set these are."""
    rows = pd.read_csv(LEAGUE)
    own = rows[(rows["method"] == "multi-loss") & rows["seed"].isin(SEEDS)]
    return float(own["test"].mean())


def main(source_dir: str, folder: str) -> None:
    rows, before = measured(Path(source_dir), Path(folder))
    write_atomically(PICTURE, file_bytes(drawing(rows), "svg").decode())
    for page, docs in PAGES.items():
        text = page.read_text(encoding="utf-8")
        before_it, start, rest = text.partition(START)
        _, end, after_it = rest.partition(END)
        if not (start and end):
            sys.exit(f"{page} has no place between {START} and {END}.")
        write_atomically(page, f"{before_it}{START}\n\n{words(rows, before, docs)}\n\n{END}{after_it}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Completion in shells: a static script that shtab writes from the options of all commands.

The script starts no Python when Tab is pressed, and knows the names that there were when it was written.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from inspect import Parameter as Argument
from shlex import join, quote
from typing import TYPE_CHECKING, Any, Final

from equipoise.cli import build_app

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument as Option

SHELLS: Final = ("bash", "zsh", "fish")
PROGRAM: Final = "equipoise"
FOLDERS: Final = frozenset({"run_dir", "folders", "--tuned", "--data-root", "--stand-in", "--figures"})
"""Arguments of which only folders make sense; other paths complete to files and folders."""

SEVERAL: Final = ("--methods", "--encoder", "--normalize", "--formats", "--logger")
"""Options that take several names; `--data` takes folders too."""
ZSH: Final = """
  _equipoise_further() {
    local at=$(( CURRENT - 1 ))
    while (( at > 1 )) && [[ ${words[at]} != -* ]]; do (( at-- )); done
    (( at > 1 && CURRENT - at > 1 )) && [[ ${words[CURRENT]} != -* ]] || return 1
    case ${words[at]} in
CASES
    *) return 1 ;;
    esac
  }
"""
FISH: Final = """
function _equipoise_further
  set -l words (commandline -opc)
  for place in (seq (count $words) -1 2)
    if string match -q -- '-*' $words[$place]
      test $words[$place] = $argv[1]; and test $place -lt (count $words)
      return
    end
  end
  return 1
end
"""
INSTALL, SHOW = "--install-completion", "--show-completion"


def script(shell: str) -> str:
    """Return the completion script of a shell, one of `SHELLS`."""
    import shtab

    written = str(shtab.complete(parser(), shell)).rstrip() + "\n"
    further = {"zsh": _further_in_zsh, "fish": _further_in_fish}
    return further[shell](written, choices()) if shell in further else written


def parser() -> ArgumentParser:
    """Return a parser with all commands, options and choices, for the script only: it parses nothing."""
    found = ArgumentParser(PROGRAM, add_help=False)
    _fill(found, build_app(), choices())
    return found


def choices() -> Mapping[str, Iterable[str]]:
    """Return what the arguments accept, by option or by the name of a command and option."""
    from equipoise import catalogue
    from equipoise.data.format.augment import AUGMENTATIONS
    from equipoise.data.format.folder import SPLIT_NAMES
    from equipoise.data.format.modality import NORMALIZATIONS
    from equipoise.diagnosis.options import PRESETS
    from equipoise.experiments.grid.executors import EXECUTORS
    from equipoise.experiments.grid.planning import GROUPS
    from equipoise.experiments.paper.items import ITEMS
    from equipoise.experiments.paper.plan import PROTOCOLS
    from equipoise.report.render import FIGURE_WIDTHS, FORMATS
    from equipoise.report.table import KINDS
    from equipoise.tracking.services import SERVICES
    from equipoise.training import settings
    from equipoise.training.export.export import FORMATS as EXPORTS
    from equipoise.training.recipe import AUTO

    methods, models = list(catalogue.list_methods()), catalogue.list_models()
    encoders = [name for name, facts in models.items() if facts["role"] == "encoder"]
    return {
        "--method": methods,
        "--methods": [*GROUPS, *methods],
        "--encoder": [AUTO, *encoders],
        "--fusion": [name for name in models if name not in encoders],
        "--recipe": [AUTO, *catalogue.list_recipes()],
        "--device": settings.DEVICES,
        "--compile": settings.COMPILE_MODES,
        "--optimizer": settings.DEFAULT_LR,
        "--schedule": settings.SCHEDULES,
        "--precision": settings.PRECISIONS,
        "--select": settings.SELECTORS,
        "--augment": AUGMENTATIONS,
        "--normalize": NORMALIZATIONS,
        "--executor": EXECUTORS,
        "--preset": PRESETS,
        "--formats": FORMATS,
        "--figure-width": FIGURE_WIDTHS,
        "--table": KINDS,
        "--protocol": PROTOCOLS,
        "--logger": SERVICES,
        "export --format": EXPORTS,
        "predict --split": SPLIT_NAMES,
        "reproduce name": ITEMS,
        "--data": catalogue.list_datasets(),
    }


def _fill(found: ArgumentParser, app: App, known: Mapping[str, Iterable[str]], command: str = "") -> None:
    """Add the arguments of a command, and its own commands below it."""
    found.add_argument("--help", "-h", action="store_true", help="show the options")
    below = [name for name in app if not name.startswith("-")]
    if below:
        if not command:
            found.add_argument("--version", action="store_true", help="show the version")
            for flag in (INSTALL, SHOW):
                found.add_argument(flag, nargs="?", choices=SHELLS, help=_plain(app[flag].help))
        commands = found.add_subparsers()
        for name in below:
            text = _plain(app[name].help)
            _fill(commands.add_parser(name, help=text, add_help=False), app[name], known, name)
    else:
        for option in app.assemble_argument_collection(parse_docstring=True):
            if option.name != "*":
                _add(found, option, known, command)


def _add(found: ArgumentParser, option: Option, known: Mapping[str, Iterable[str]], command: str) -> None:
    """Add one argument of a command, with what completes its values."""
    import shtab

    positional = option.field_info.kind is Argument.POSITIONAL_ONLY
    name = option.field_info.name if positional else option.name
    more: dict[str, Any] = {"help": _plain(option.parameter.help)}
    if option.is_flag():
        more["action"] = "store_true"
    elif option.token_count()[1]:
        more["nargs"] = "+"
    names = known.get(name, known.get(f"{command} {name}", option.get_choices(force=True)))
    if names is not None and name != "--data":
        more["choices"] = list(names)
    added: Any = found.add_argument(name, **more)
    if name == "--data":
        added.complete = _names_or_folders(known[name])
    elif "Path" in str(option.hint):
        added.complete = shtab.DIRECTORY if name in FOLDERS else shtab.FILE


def _names_or_folders(names: Iterable[str]) -> dict[str, Any]:
    """Return functions of the shells that complete one of the names, or a folder."""
    words = join(names)
    return {
        **{"bash": "_equipoise_data", "zsh": "_equipoise_data", "fish": "(_equipoise_data)"},
        "preamble": {
            "bash": f'_equipoise_data() {{\n  compgen -W "{words}" -- "$1"\n  compgen -d -- "$1"\n}}\n',
            "zsh": "_equipoise_data() {\n  _alternative"
            f" 'datasets:dataset:({words})' 'folders:folder:_files -/'\n}}\n",
            "fish": "function _equipoise_data\n"
            f"  printf '%s\\n' {words}\n  __fish_complete_directories (commandline -ct)\nend\n",
        },
    }


def _further_in_zsh(written: str, known: Mapping[str, Iterable[str]]) -> str:
    """Complete the second and later values of options too: shtab does so in bash only."""
    cases = [f"    {name}) compadd -- {join(known[name])} ;;" for name in SEVERAL]
    own = ZSH.replace("CASES", "\n".join([*cases, "    --data) _equipoise_data ;;"]))
    head, call, rest = written.rpartition('  _shtab_equipoise "$@"\n')
    return f"{head}  {own.strip()}\n  _equipoise_further || {call.strip()}\n{rest}"


def _further_in_fish(written: str, known: Mapping[str, Iterable[str]]) -> str:
    """Complete the second and later values of options too: shtab does so in bash only."""
    rows = [
        f"complete -c {PROGRAM} -n '_equipoise_further {name}' -fa {quote(join(known[name]))}"
        for name in SEVERAL
    ]
    data = f"complete -c {PROGRAM} -n '_equipoise_further --data' -fa '(_equipoise_data)'"
    return "\n".join([written, FISH.strip(), *rows, data, ""])


def _plain(text: str | None) -> str:
    """Return the first sentence of a help text, without marks, as shells show it beside a word."""
    first = " ".join((text or "").replace("`", "").split()).split(". ")[0]
    return first.removesuffix(".").replace("%", "%%")

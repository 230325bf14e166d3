"""The command `raymill`. Imports nothing heavy: `--help` answers at once.

Exit status: 0 done, as where Ctrl-C ended an endpoint that it served; 2 the user's to mend; 3
infrastructure gave out; 4 a gate refused; 130 interrupted.
"""

import argparse
import contextlib
import json
import math
import signal
import sys
import traceback
from collections.abc import Sequence
from time import monotonic
from typing import Any

from cluster import __version__
from cluster.errors import RaymillError

ABOUT = "One recipe turns text corpora into a served model on one Ray cluster."
INTERRUPTED = 130
EPILOG = """\
to begin: raymill run quickstart
your own: raymill recipes quickstart > mine.yaml; raymill recipes --keys explains what can be in it
exit status: 0 done, or Ctrl-C ended an endpoint that served; 2 yours to mend; 3 infrastructure
gave out; 4 a gate refused; 130 interrupted
"""
STAGE_VERBS = {
    "shard": "run up to token shards: clean, deduplicate, tokenize, pack",
    "pretrain": "run up to a pretrained base model",
    "tune": "run up to the search of fine-tuning settings",
    "finetune": "run up to a fine-tuned task model",
}
STAGES = "examples, shard, pretrain, render, reference, tune, finetune, evaluate, promote or serve"
TARGETS = {
    "RECIPE": "a file, or the name of a shipped recipe",
    "MODEL": "a recipe's name for its newest, or an id (model/...), or the path of its folder",
    "RECIPE|MODEL": "a recipe's file or shipped name; or a model's id (model/...), the path of its "
    "folder, or the name in its recipe for the newest",
}


ECHO_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from cluster.lazy_import import lazy_import
    from cluster.runs.progress import Terminal

    terminal = Terminal(out_is_json=options.json)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, CtrlC())
    signal.signal(signal.SIGTERM, _interrupt)
    # Under nohup a run outlives its terminal, and a job outlives who follows it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and options.verb != "submit":
        signal.signal(signal.SIGHUP, _interrupt)
    answer: dict[str, Any] = {}
    error: str | None = None
    try:
        status, answer = lazy_import(f"cluster.cli.{options.function}")(options, terminal)
    except RaymillError as raised:
        status, error = raised.exit_status, str(raised)
    except KeyboardInterrupt:
        status, error = INTERRUPTED, "interrupted; what was finished is kept"
    except Exception as raised:  # noqa: BLE001  whatever it is, the user gets a line and a status
        status, error = RaymillError.exit_status, f"unexpected error {raised!r}"
        with contextlib.suppress(OSError):  # the disk of the log may be what failed
            traceback.print_exc()  # into the run's log, where there is one
        if terminal.log is not None:
            error += f"; {terminal.log} has the traceback"
    if error is not None:
        terminal.err.write(f"raymill: {error}\n")
    if options.json:
        log = None if terminal.log is None else str(terminal.log)
        always = {"status": status, "run": terminal.run, "log": log, "error": error}
        terminal.out.write(json.dumps({**always, **answer}, ensure_ascii=False) + "\n")
    terminal.close()
    return status


class CtrlC:
    """Raises KeyboardInterrupt. A further SIGINT within ECHO_S is the same Ctrl-C: GNU timeout, and
    what hands signals on to a process in its own group, send it twice."""

    def __init__(self) -> None:
        self._raised = -math.inf

    def __call__(self, signum: int, frame: Any) -> None:
        now = monotonic()
        if now - self._raised > ECHO_S:
            self._raised = now
            raise KeyboardInterrupt


def _interrupt(signum: int, frame: Any) -> None:
    """SIGTERM and a terminal that is closed are like Ctrl-C, but never like a second one, which
    waits for nothing: GNU timeout, a shell and the kernel each send theirs more than once."""
    signal.signal(signum, signal.SIG_IGN)
    if not isinstance(sys.exception(), KeyboardInterrupt):
        raise KeyboardInterrupt


def _add_score(score: argparse.ArgumentParser) -> None:
    score.add_argument(
        "source", metavar="IN", help="a file, glob or URI; or - with --set dataset=NAME"
    )
    score.add_argument("out", metavar="OUT", help="a new folder or URI, or one to go on with")
    score.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="how IN is read: a key of a source, such as columns.text=review or encoding=gb18030 "
        "(`raymill recipes --keys corpora.sources`); may be repeated",
    )
    score.add_argument(
        "--format", choices=("parquet", "jsonl"), default="parquet", help="of OUT's files"
    )
    score.add_argument(
        "--prefix",
        metavar="TEXT",
        default="prediction_",
        help="of the columns that are added to those of IN (default: prediction_)",
    )


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object at the end")
    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument(
        "--workspace",
        metavar="PLACE",
        help="folder or URI of the artifacts (default: the recipe's, or ~/.raymill)",
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a recipe's key, such as pretrain.learning_rate=1e-3; may be repeated",
    )
    ray = argparse.ArgumentParser(add_help=False)
    ray.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="a running Ray, or `auto` (default: a local one made for this call)",
    )
    scoring = argparse.ArgumentParser(add_help=False)
    scoring.add_argument(
        "--workers",
        metavar="NUMBER",
        type=int,
        help="that hold the model (default: as many as there is room and work for)",
    )
    scoring.add_argument(
        "--gpus-per-worker",
        metavar="NUMBER",
        type=float,
        help="may be a share, such as 0.5 (default: 1 where the cluster has GPUs, else 0)",
    )
    hold = argparse.ArgumentParser(add_help=False)
    hold.add_argument(
        "--no-hold",
        dest="hold",
        action="store_false",
        help="end after one request to the endpoint; else it serves until Ctrl-C",
    )

    parser = argparse.ArgumentParser(
        prog="raymill",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"raymill {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(
        name: str,
        about: str,
        target: str | None,
        *parents: argparse.ArgumentParser,
        function: str | None = None,
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=about, description=about, parents=[common, *parents])
        made.set_defaults(verb=name, function=function or f"verbs:{name}")
        if target is not None:
            made.add_argument("target", metavar=target, help=TARGETS[target])
        return made

    recipes = verb("recipes", "list shipped recipes, print one, or explain every key", None)
    recipes.add_argument("target", metavar="NAME", nargs="?", help="print this shipped recipe")
    recipes.add_argument(
        "--keys",
        metavar="SECTION",
        nargs="?",
        const="",
        help="explain every key that a recipe can have, or those below one, such as corpora.clean",
    )
    check = verb("check", "validate a recipe and look at its files", "RECIPE", recipe, stored)
    check.add_argument(
        "--show-row",
        metavar="N",
        type=int,
        help="show this row of the sources, the first being 1, as a model that writes text is "
        "trained on it: its tokens, and which of them are learned",
    )
    plan = verb("plan", "memory, time and cost of a recipe's trainings", "RECIPE", recipe, stored)
    plan.add_argument(
        "--accelerator",
        metavar="NAME",
        help="of a worker, such as A100-80GB, H100, L4, RTX-4090 (default: this machine's CPUs)",
    )
    for option, about in (
        ("--memory-gb", "memory of a worker"),
        ("--peak-tflops", "peak of its matrix products in bf16"),
        ("--price", "US dollars an hour for an accelerator"),
    ):
        plan.add_argument(option, metavar="NUMBER", type=float, help=about)
    plan.add_argument(
        "--mfu",
        metavar="SHARE",
        type=float,
        default=0.4,
        help="of the peak that training reaches (default: 0.4)",
    )
    for name, about in STAGE_VERBS.items():
        made = verb(name, about, "RECIPE", recipe, stored, ray, function="verbs:run")
        made.set_defaults(since=None, until=name, hold=False)
    run = verb("run", "run all stages, corpora to endpoint", "RECIPE", recipe, stored, ray, hold)
    run.add_argument("--from", dest="since", metavar="STAGE", help=f"begin at this stage: {STAGES}")
    run.add_argument("--until", metavar="STAGE", help="end after this stage")
    status = verb("status", "list runs, or show one with its stages and reports", None, stored)
    status.add_argument(
        "target", metavar="RUN", nargs="?", help="a run's id, or a recipe's name: its newest run"
    )
    status.add_argument(
        "--html", action="store_true", help="write the run's report with plots into its folder"
    )
    status.add_argument("--open", action="store_true", help="open the run's reports in the browser")
    both = (recipe, stored, ray)
    evaluate = verb(
        "evaluate",
        "show a model's figures on the test split",
        "RECIPE|MODEL",
        *(*both, scoring),
        function="model_verbs:evaluate",
    )
    evaluate.add_argument(
        "--against",
        metavar="MODEL",
        help="compare it with another model on the same rows: differences, intervals, p-values",
    )
    evaluate.add_argument(
        "--data",
        metavar="FILE",
        help="evaluate a model on a labelled file, read as a recipe's source is; --set gives its "
        "keys, such as columns.text=review (- with --set dataset=NAME)",
    )
    of_rows = "a model's answers to the rows of files"
    scored = (stored, ray, scoring)
    _add_score(verb("score", of_rows, "MODEL", *scored, function="model_verbs:score"))
    about = "let an evaluated model be served"
    promote = verb("promote", about, "MODEL", stored, function="model_verbs:promote")
    promote.add_argument(
        "--gate",
        metavar="METRIC=VALUE",
        action="append",
        default=[],
        help="least value of a test metric, such as accuracy=0.8, or the most that an error may "
        "be; may be repeated",
    )
    verb("serve", "serve a recipe's model, or a promoted one", "RECIPE|MODEL", *both, hold)
    submit = verb("submit", "run a recipe as a Ray job and follow it", None, recipe, stored)
    submit.add_argument("target", metavar="RECIPE", nargs="?", help=TARGETS["RECIPE"])
    submit.add_argument(
        "--address", required=True, metavar="URL", help="the dashboard, http://HOST:8265"
    )
    submit.add_argument("--until", metavar="STAGE", help=f"end after this stage: {STAGES}")
    submit.add_argument("--detach", action="store_true", help="return as soon as the job is taken")
    submit.add_argument(
        "--follow", metavar="JOB_ID", help="follow a job that was submitted; Ctrl-C lets it go on"
    )
    return parser

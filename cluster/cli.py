"""The command `raymill`. Imports nothing heavy: `--help` answers at once.

Exit status: 0 done, also a held endpoint that Ctrl-C ended; 2 the user's to mend; 3 infrastructure
gave out; 4 a gate refused; 130 interrupted.
"""

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from cluster import __version__
from cluster.errors import RaymillError

ABOUT = "One recipe turns text corpora into a served model on one Ray cluster."
INTERRUPTED = 130
STAGE_VERBS = {
    "shard": "clean, deduplicate, tokenize and pack the corpora",
    "pretrain": "... and pretrain a base model",
    "tune": "... and search fine-tuning settings",
    "finetune": "... and fine-tune a task model",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from cluster import verbs
    from cluster.progress import Terminal

    terminal = Terminal(out_is_json=options.json)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status, answer = getattr(verbs, options.verb)(options, terminal)
    except RaymillError as error:
        status, answer = error.exit_status, {"error": str(error)}
        terminal.err.write(f"raymill: {error}\n")
        if options.debug:
            terminal.err.write(traceback.format_exc())
    except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line and a status
        status, answer = RaymillError.exit_status, {"error": repr(error)}
        terminal.err.write(f"raymill: unexpected {error!r}; --debug or the run's log has more\n")
        if terminal.is_diverted:
            traceback.print_exc()  # into the run's log
        if options.debug:
            terminal.err.write(traceback.format_exc())
    except KeyboardInterrupt:
        status, answer = INTERRUPTED, {"error": "interrupted"}
        terminal.err.write("raymill: interrupted; what was finished is kept\n")
    if options.json:
        terminal.out.write(json.dumps({"status": status, **answer}, ensure_ascii=False) + "\n")
    return status


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object at the end")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument(
        "--workspace", help="folder or URI of the artifacts (default: the recipe's)"
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
    ray.add_argument("--address", help="a running Ray (default: a local one made for this call)")
    hold = argparse.ArgumentParser(add_help=False)
    hold.add_argument(
        "--no-hold",
        dest="hold",
        action="store_false",
        help="end after the endpoint's smoke request",
    )

    parser = argparse.ArgumentParser(prog="raymill", description=ABOUT)
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
        made.set_defaults(verb=function or name)
        if target is not None:
            made.add_argument("target", metavar=target)
        return made

    verb("recipes", "list shipped recipes", None).add_argument(
        "--keys",
        metavar="SECTION",
        nargs="?",
        const="",
        help="instead, every key that a recipe can have, or those of one section",
    )
    verb("check", "validate a recipe", "RECIPE", recipe, stored)
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
        made = verb(name, about, "RECIPE", recipe, stored, ray, function="run")
        made.set_defaults(since=None, until=name, hold=False)
    run = verb("run", "run a recipe, corpora to endpoint", "RECIPE", recipe, stored, ray, hold)
    run.add_argument("--from", dest="since", metavar="STAGE", help="begin at this stage")
    run.add_argument("--until", metavar="STAGE", help="end after this stage")
    status = verb("status", "runs, or one of them", None, stored)
    status.add_argument(
        "target", metavar="RUN", nargs="?", help="a run's id, or a recipe's name: its newest run"
    )
    status.add_argument("--open", action="store_true", help="open the run's reports in the browser")
    both = (recipe, stored, ray)
    verb("evaluate", "figures on the test split", "RECIPE|MODEL", *both)
    promote = verb("promote", "let an evaluated model be served", "MODEL", stored)
    promote.add_argument(
        "--gate",
        metavar="METRIC=VALUE",
        action="append",
        default=[],
        help="least value of a test metric; may be repeated",
    )
    verb("serve", "serve a promoted model", "RECIPE|MODEL", *both, hold)
    submit = verb("submit", "run a recipe as a Ray job", "RECIPE", recipe, stored)
    submit.add_argument(
        "--address", required=True, help="the cluster's dashboard, http://HOST:8265"
    )
    submit.add_argument("--until", metavar="STAGE", help="end after this stage")
    return parser


if __name__ == "__main__":
    sys.exit(main())

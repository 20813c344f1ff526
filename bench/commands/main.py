"""The command line. Every user's mistake ends in one line on standard error and exit status 2.

A signal ends it in one line too, with the status that its sender expects.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from click.shell_completion import shell_complete

import segscale
from segscale.errors import UserError
from segscale.files import DISK_FULL
from segscale.places import is_of_client

from ...backbones.loading.options import LESS_MEMORY, is_out_of_memory
from .align import align, convert_lora, lora_gain
from .analysis import calibrate, layers, modalities, quirks, values
from .blocks import features, perturb
from .boundary import boundary
from .command import Group, help_hint, unknown
from .data import caption, data
from .direct_masks import genmask, latents
from .export import export
from .generate import generate, power, scaling
from .guidance import guidance
from .overview import doctor, list_names, sites
from .perf import perf
from .predict import predict
from .report import agree, compare, figures, leaderboard, report, table
from .run import bench, run
from .sweep import status, sweep
from .termination import Terminated, terminable
from .variants import ablate, timesteps
from .verify import verify

log = logging.getLogger(__name__)

FAILURE = 2
LOG_VARIABLE = "SEGSCALE_LOG"
COMPLETION = "_SEGSCALE_COMPLETE"
RUNNING = (bench, run, sweep, status)
TABLES = (table, agree, compare, leaderboard, figures, scaling, report, export, boundary, verify)
ANALYSES = (calibrate, quirks, timesteps, ablate, layers, modalities, values, perturb, features, latents, perf)
MODELS = (generate, power, guidance, align, convert_lora, lora_gain, genmask)
COMMANDS = (*RUNNING, *TABLES, *ANALYSES, *MODELS, predict, caption, data, sites, list_names, doctor)

program = Group(
    "segscale",
    help=segscale.__doc__,
    no_args_is_help=False,
    commands={command.name: command for command in COMMANDS},
    examples=["segscale bench --limit 20", 'segscale predict photo.jpg --classes "star, ring"'],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
click.version_option(segscale.__version__, message="segscale %(version)s")(program)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, and turn a UserError, an interrupt or a signal into one line."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.WARNING, format="segscale: %(message)s")
    with ended_in_one_line(arguments), terminable():
        _set_log_level(os.environ.get(LOG_VARIABLE, "warning"))
        if instruction := os.environ.get(COMPLETION):
            sys.exit(shell_complete(program, {}, "segscale", COMPLETION, instruction))
        with program.make_context("segscale", list(arguments), obj=_retyped(arguments)) as context:
            program.invoke(context)


def _set_log_level(name: str) -> None:
    """How much Segscale itself logs; tracebacks of errors are logged at ``debug``."""
    levels = logging.getLevelNamesMapping()
    if name.upper() not in levels:
        raise UserError(f"{LOG_VARIABLE} is {name!r}", "name a level, such as debug or warning, or unset it")
    logging.getLogger("segscale").setLevel(levels[name.upper()])


@contextmanager
def ended_in_one_line(arguments: Sequence[str]) -> Iterator[None]:
    """The only place that decides what is said, and with which status, when a command does not end by itself."""
    try:
        yield
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.UsageError as error:
        sys.exit(_fail(str(_usage_error(error))))
    except UserError as error:
        log.debug("this led to the error", exc_info=True)
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit(_fail(f"interrupted; {_resume(arguments)}"))
    except Terminated as end:
        _fail(f"ended by {end}; {_resume(arguments)}")
        sys.exit(end.status)
    except BrokenPipeError:
        _close_output()
    except Exception as error:
        if (line := _foreseen(error, arguments)) is None:
            raise
        log.debug("this led to the error", exc_info=True)
        sys.exit(_fail(line))


def _foreseen(error: Exception, arguments: Sequence[str]) -> str | None:
    """What is said of an error that comes from the machine or a store; None of any other."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        _close_output()
        return f"no space is left on a disk; free some, then: {_retyped(arguments)}"
    if is_out_of_memory(error):
        return f"the device has too little memory; {LESS_MEMORY}"
    if is_of_client(error):
        reason = str(error).partition("\n")[0]
        return f"the object store failed ({reason}); once it answers: {_retyped(arguments)}"
    return None


def _close_output() -> None:
    """What is left to say to standard output goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error(error: click.UsageError) -> UserError:
    if isinstance(error, click.NoSuchOption):
        return unknown("option", error.option_name, error.possibilities, error.ctx)
    problem = error.format_message().rstrip(".")
    return UserError(problem[:1].lower() + problem[1:], help_hint(error.ctx))


def _resume(arguments: Sequence[str]) -> str:
    resumes = getattr(program.commands.get("".join(arguments[:1])), "resumes", False)
    stored = "what was computed is stored, resume with: " if resumes else "again: "
    return stored + _retyped(arguments)


def _retyped(arguments: Sequence[str]) -> str:
    return shlex.join(["segscale", *arguments])


def _fail(message: str) -> int:
    line = " ".join(message.split())
    print("segscale: error:", "".join(filter(str.isprintable, line)), file=sys.stderr)
    return FAILURE

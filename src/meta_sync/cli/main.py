"""The ``meta-sync`` command: its sub-commands, and how its errors are said."""

from __future__ import annotations

import os
import sys

import typer
from sqlalchemy.exc import SQLAlchemyError

import meta_sync
from meta_sync.cli import (
    audit_commands,
    catalog_commands,
    console,
    demo,
    doctor_commands,
    error_commands,
    hold_commands,
    item_commands,
    job_commands,
    platform_commands,
    preflight_commands,
    process_commands,
    reconcile_commands,
    schema_commands,
    sync_commands,
    up,
)
from meta_sync.core.errors import ServiceError, StartError
from meta_sync.core.outages import DatabaseAwayError, is_contention, is_outage, outage_reason

__all__ = ["app", "main"]

_FAILED = 1
_REFUSED = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141

app = typer.Typer(
    name="meta-sync",
    help="Keeps a store's catalog true on Facebook and Instagram.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in (
    up,
    demo,
    process_commands,
    schema_commands,
    platform_commands,
    catalog_commands,
    sync_commands,
    preflight_commands,
    reconcile_commands,
    error_commands,
    item_commands,
    hold_commands,
    job_commands,
    audit_commands,
    doctor_commands,
):
    _module.add_to(app)


def _version(value: bool) -> None:
    if value:
        console.say(meta_sync.__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version


def main() -> None:
    """Run the command. What was expected to be able to fail is one sentence on standard error, never a traceback."""
    try:
        app(prog_name="meta-sync")
    except StartError as error:
        console.note(f"meta-sync: {error}")
        sys.exit(_REFUSED)
    except ServiceError as error:
        console.note(f"meta-sync: {error.message}")
        said = error.meta.get("fbMessage") if error.meta else None
        if said:
            console.note(f"  Meta says: {said}")
        for detail in error.details:
            # An error about one field has said all of it in its sentence.
            if detail.message.rstrip(".") not in error.message:
                console.note(f"  {detail.field} {detail.message}")
        sys.exit(_FAILED)
    except (DatabaseAwayError, SQLAlchemyError) as error:
        if not is_outage(error) and not is_contention(error):
            raise
        reason = outage_reason(error).rstrip(".")
        console.note(f"meta-sync: The database failed: {reason}. What was asked for may not have been done.")
        sys.exit(_FAILED)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output went away; Python would complain once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)

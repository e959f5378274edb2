"""The command line: ``diffseg models | sample | saliency | measure | train | evaluate | convert | replay``.

Exit codes: 0 done; 1 a replay gave other results; 2 wrong usage or unusable input, with one sentence on standard
error; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from diffseg.errors import DiffsegError

COMMANDS = ("models", "sample", "saliency", "measure", "train", "evaluate", "convert", "replay")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print what is wrong and where help is, and leave with 2."""
        sys.stderr.write(f"{self.prog}: {message}; see '{self.prog} --help'.\n")
        raise SystemExit(2)


def parser() -> Parser:
    """The parser with all commands; each lives in ``diffseg.cli.<command>``."""
    top = Parser(prog="diffseg", description="Diffusion segmentation: every plausible mask, and how it came about.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        module = import_module(f"diffseg.cli.{name}")
        sub = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        options = parser().parse_args(arguments)
        return options.run(options) or 0
    except DiffsegError as error:
        sys.stderr.write(f"diffseg: {error}\n")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.stderr.write("diffseg: Memory ran out; close other programs or choose a smaller region.\n")
        return 2
    except BrokenPipeError:
        return 0  # the reader of our output, such as head, has seen enough
    except OSError as error:
        sys.stderr.write(f"diffseg: {error.filename or 'A file'} cannot be used: {error.strerror or error}.\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("diffseg: interrupted; nothing half-written was left behind.\n")
        return 130


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from diffseg.devices import is_out_of_memory  # only once torch is there anyway

    return is_out_of_memory(error)


if __name__ == "__main__":
    sys.exit(main())

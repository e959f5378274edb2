"""The commands of the command line, one module each: ``HELP``, ``add_arguments``, ``run``.

They import torch only when they run, so that ``--help`` and ``models`` answer at once.
"""

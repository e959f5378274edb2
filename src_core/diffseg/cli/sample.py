"""``diffseg sample``: an ensemble of masks for one case, written as NIfTI files on the scan's own grid."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from diffseg.zoo import find_model

HELP = "draw an ensemble of masks for one scan and write it to a folder"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file or DICOM folder per channel")
    sub.add_argument("-m", "--model", required=True, help="a shipped model's name or a .safetensors file")
    sub.add_argument("-o", "--out", required=True, type=Path, help="folder for the results")
    sub.add_argument("-n", "--members", type=int, default=16, help="number of masks (default 16)")
    sub.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    sub.add_argument("--sampler", help="ddim or ddpm (default: the model's)")
    sub.add_argument("--seed", type=int, default=0, help="0 or more; the same seed gives the same masks (default 0)")
    sub.add_argument(
        "--roi",
        metavar="z0:z1,y0:y1,x0:x1",
        help="region in voxels as napari shows the scan: z from superior, y from anterior, x from the right",
    )
    sub.add_argument("--rater", type=Path, action="append", default=[], help="a person's mask; may be repeated")
    sub.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")
    sub.add_argument("--trajectory", action="store_true", help="also write x_t of the first member, step by step")


def run(options: argparse.Namespace) -> None:
    """Sample, write, and say where."""
    from diffseg.checkpoint import load_checkpoint  # torch, only now
    from diffseg.io import read_scan
    from diffseg.outputs import refuse_occupied, write_outputs
    from diffseg.plan import plan_for
    from diffseg.run import Run

    refuse_occupied(options.out)
    checkpoint = load_checkpoint(find_model(options.model))
    named = checkpoint.card.channels if len(options.images) == len(checkpoint.card.channels) else None
    case, files = read_scan(options.images, options.rater, named)
    for note in case.notes:
        sys.stderr.write(f"diffseg: {note}\n")
    # A series of slices is one image of many files, and a 4D file is several images.
    images = tuple(dict.fromkeys(path for group in files for path in group))
    choices: dict[str, Any] = {k: getattr(options, k) for k in ("members", "seed", "roi", "device", "steps", "sampler")}
    plan = plan_for(checkpoint.card, checkpoint.sha256, images, tuple(options.rater), **choices)
    begin = time.monotonic()
    job = Run(plan, case, checkpoint)
    fields = trajectory_fields(job) if options.trajectory else []
    snapshot = grow(job, plan.members)
    plan = job.record(plan.members)
    names = write_outputs(options.out, case, checkpoint.card, plan, job.prepared.roi, snapshot, fields)
    seconds = time.monotonic() - begin
    print(f"{plan.members} masks in {seconds:.1f} s on {job.device}; {len(names)} files in {options.out}")


def grow(job: Any, members: int) -> Any:
    """The finished ensemble, with a progress bar where somebody watches."""
    ensemble = job.ensemble()
    tqdm.monitor_interval = 0  # a thread that watches the bar, and warns where memory for threads is short
    with tqdm(total=members * job.steps, unit="step", disable=None, leave=False) as bar:
        for growth in job.grow(ensemble, members):
            bar.update(growth.done - bar.n)
            if growth.note:
                bar.write(growth.note)
    return ensemble.snapshot()


def trajectory_fields(job: Any) -> list[Any]:
    """The field of x_t of member 0 on the region of the scan, from the noise to the last step.

    Where memory runs out on the way it begins anew, so that trajectory and mask of the member are of one kind.
    """
    states: list[Any] = []
    while not states:
        states = [job.initial(), *(step.x for step in job.trajectory())]
        if note := job.take_note():
            sys.stderr.write(f"diffseg: {note}\n")
            states = []
    return [job.prepared.restore(job.display(x)[None])[0] for x in states]

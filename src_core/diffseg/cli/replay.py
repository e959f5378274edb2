"""``diffseg replay``: a recorded plan run again, and its results compared to the bit."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.mask_file import MaskPlan
from diffseg.plan import SamplePlan

if TYPE_CHECKING:
    from diffseg.checkpoint import Checkpoint
    from diffseg.replay import Comparison
    from diffseg.saliency_plan import ExplainPlan

HELP = "run a recorded plan again and compare the results; 0: the same bits, 1: they differ"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    told = "plan.json of a run, the .plan.json beside a mask, or the folder of either"
    sub.add_argument("plan", type=Path, metavar="PLAN", help=told)
    sub.add_argument("-m", "--model", help="the checkpoint of the plan, where it is no shipped model")
    sub.add_argument("--classifier", help="the classifier of the plan, likewise")
    sub.add_argument("--device", help="auto, cuda, mps or cpu (default: the plan's); only the same gives the same bits")


def run(options: argparse.Namespace) -> int:
    """Replay, and say for each file whether it is the same; the exit code."""
    from diffseg.replay import other_versions, plan_in, read_record

    path = plan_in(options.plan)
    record = read_record(path)
    if isinstance(record, MaskPlan):
        found = mask(record, path, options)
    elif isinstance(record, SamplePlan):
        found = sample(record, path, options)
    else:
        found = saliency(record, path, options)
    for one in found:
        words = f"{'same' if one.same else 'DIFFERS'}{': ' if one.words else ''}{one.words}"
        print(f"{one.name:32} {words}")
    same = all(one.same for one in found)
    if not same and (changes := other_versions(record.versions)):
        print(f"Versions: {changes}.")
    print("The same bits." if same else "The results differ.")
    return 0 if same else 1


def sample(plan: SamplePlan, path: Path, options: argparse.Namespace) -> list[Comparison]:
    """The ensemble drawn again, all files of the folder compared."""
    from diffseg.cli.sample import grow, trajectory_fields
    from diffseg.outputs import write_outputs
    from diffseg.replay import compare_folders

    job = sampling(plan, path, options)
    fields = trajectory_fields(job) if list(path.parent.glob("trajectory_*.nii.gz")) else []
    snapshot = grow(job, plan.members)
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        write_outputs(again, job.case, job.checkpoint.card, plan, job.prepared.roi, snapshot, fields)
        return compare_folders(path.parent, again)


def saliency(plan: ExplainPlan, path: Path, options: argparse.Namespace) -> list[Comparison]:
    """The map computed again, map and mask compared."""
    from diffseg.cli.saliency import last
    from diffseg.replay import compare_folders
    from diffseg.saliency.files import write_saliency

    job = explaining(plan, path, options)
    found = job.explanation(last(job))
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        write_saliency(again, job.case, plan, job.prepared.roi, found.map, found.mask)
        return compare_folders(path.parent, again)


def mask(record: MaskPlan, path: Path, options: argparse.Namespace) -> list[Comparison]:
    """What the mask began as drawn again, where a model drew it; and whether the file is the one that was saved."""
    from diffseg.outputs import full
    from diffseg.replay import compare_mask, compare_start

    if record.plan is None:
        print(f"The mask began as {record.source}: no model drew it, so only the file is compared.")
        return [compare_mask(record, path)]
    drawn = drawn_by_sampling if isinstance(record.plan, SamplePlan) else drawn_by_saliency
    part, job = drawn(record, path, options)
    start = full(np.asarray(part, np.uint8), job.prepared.roi, job.case.grid.shape)
    return [compare_start(record, start), compare_mask(record, path, start, job.case)]


def drawn_by_sampling(record: MaskPlan, path: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """Labels ``(*roi)`` of what the mask began as, and the run that drew them."""
    from diffseg.cleaning import without_small
    from diffseg.cli.sample import grow
    from diffseg.replay_start import of_ensemble

    plan, begun = record.plan, record.start
    assert isinstance(plan, SamplePlan)
    job = sampling(plan, path, options)
    kind = begun.key.partition(":")[0]
    if kind in ("trajectory", "branch"):
        steps = job.trajectory() if kind == "trajectory" else job.branch(begun.step or 0, begun.seed or 0)
        until = begun.step if kind == "trajectory" else None
        for step in steps:
            if step.done == until:
                break
        return job.mask(step.x0), job
    snapshot = grow(job, begun.members or plan.members)
    snapshot = without_small(snapshot) if begun.relative_area else snapshot
    return of_ensemble(snapshot, begun.key, job.case.grid.voxel_ml), job


def drawn_by_saliency(record: MaskPlan, path: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """As ``drawn_by_sampling``, for what a saliency map outlines."""
    from diffseg.cli.saliency import last
    from diffseg.saliency.otsu import cut_map

    plan, begun = record.plan, record.start
    assert plan is not None and not isinstance(plan, SamplePlan)
    job = explaining(plan, path, options)
    step = last(job, begun.step)
    mean, first = (job.on_scan(m) for m in (step.map, step.first))
    return cut_map(mean, first, begun.rule or plan.threshold, begun.threshold, begun.largest).mask, job


def sampling(plan: SamplePlan, path: Path, options: argparse.Namespace) -> Any:
    """The run of a plan, on the same scan and with the same model."""
    from diffseg.replay import same_scan
    from diffseg.run import Run

    model = checkpoint(plan.model, plan.model_sha256, options.model, path)
    case = same_scan(plan, model.card.channels)
    if options.device:
        ran = tuple(replace(stage, device=options.device) for stage in plan.ran)
        plan = replace(plan, device=options.device, ran=ran)
    return Run(plan, case, model)


def explaining(plan: ExplainPlan, path: Path, options: argparse.Namespace) -> Any:
    """The explanation of a plan, on the same scan and with the same models."""
    from diffseg.devices import available
    from diffseg.replay import same_scan
    from diffseg.saliency.run import SaliencyRun

    model = checkpoint(plan.model, plan.model_sha256, options.model, path)
    guide = None
    if plan.classifier is not None and plan.classifier_sha256 is not None:
        near = None if options.model is None else Path(options.model)
        guide = checkpoint(plan.classifier, plan.classifier_sha256, options.classifier, near or path)
    case = same_scan(plan, model.card.channels)
    ran = plan.ran if plan.ran is not None and plan.ran.split(":")[0] in available() else plan.device
    return SaliencyRun(replace(plan, device=options.device or ran), case, model, guide)


def checkpoint(name: str, sha256: str, given: str | None, path: Path) -> Checkpoint:
    """The model of a plan; also looked for in the folder of ``path``."""
    from diffseg.checkpoint import load_checkpoint  # torch, only now
    from diffseg.replay import same_model

    return load_checkpoint(same_model(name, sha256, given, path.parent))

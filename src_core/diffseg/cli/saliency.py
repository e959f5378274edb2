"""``diffseg saliency``: where an image shows a class, written as NIfTI files on the scan's own grid."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from diffseg.convert.settings import parse_changes
from diffseg.errors import PlanError
from diffseg.zoo import find_model

HELP = "map where a scan shows a lesion, by models that know image-level labels only"
# Options with a name of their own, and the knob that each sets.
KNOBS = ("q", "r", "tau", "scale")


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a file or DICOM folder per channel")
    sub.add_argument("-m", "--model", required=True, help="an image diffusion model, or for CAMs a classifier")
    sub.add_argument("-o", "--out", required=True, type=Path, help="folder for the results")
    sub.add_argument("--classifier", help="classifier for guided methods (default: MODEL-classifier.safetensors)")
    sub.add_argument("--method", default="cg-cdm", help="cdm, cg-cdm, cg-diff, grad-cam, ... (default cg-cdm)")
    sub.add_argument("--q", type=int, help="time step to which the image is noised (default: the model's, else 400)")
    sub.add_argument("--r", type=int, help="number of denoising steps (default: the model's, else 10)")
    sub.add_argument("--tau", type=float, help="weight that the label keeps, below 1 (default: the model's, else 0.95)")
    sub.add_argument("--scale", type=float, help="strength of the guidance (default: the model's, else 10)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="another setting of the method, for example stride=10; an unknown one lists the known ones",
    )
    sub.add_argument("--draws", type=int, help="draws of noise that are averaged (default: the model's, else 1)")
    sub.add_argument("--seed", type=int, default=0, help="0 or more; the same seed gives the same map (default 0)")
    sub.add_argument("--target", type=int, default=1, help="number of the label looked for (default 1)")
    sub.add_argument("--background", type=int, default=0, help="number of the label without it (default 0)")
    sub.add_argument("--threshold", default="otsu-average", help="otsu-average, otsu-slice or otsu-volume")
    sub.add_argument("--largest", action="store_true", help="keep only the largest component of each slice")
    sub.add_argument("--roi", metavar="z0:z1,y0:y1,x0:x1", help="region in voxels as napari shows the scan")
    sub.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")


def run(options: argparse.Namespace) -> None:
    """Explain, write, and say where."""
    from diffseg.checkpoint import load_checkpoint  # torch, only now
    from diffseg.io import read_scan
    from diffseg.outputs import refuse_occupied
    from diffseg.saliency.files import write_saliency
    from diffseg.saliency.run import SaliencyRun, method_of
    from diffseg.saliency_plan import explain_plan, recommended

    refuse_occupied(options.out)
    method_of(options.method, settings(options))  # a misspelt setting is told before anything is loaded
    path = find_model(options.model)
    checkpoint = load_checkpoint(path)
    knobs, draws = recommended(checkpoint.card, options.method)
    method = method_of(options.method, knobs | settings(options))
    guide = classifier_path(options, path)
    classifier = None if guide is None else load_checkpoint(guide)
    case, files = read_scan(options.images, (), checkpoint.card.channels)
    for note in case.notes:
        sys.stderr.write(f"diffseg: {note}\n")
    choices: dict[str, Any] = {
        k: getattr(options, k) for k in ("seed", "target", "background", "threshold", "roi", "device")
    }
    plan = explain_plan(
        (checkpoint.card.name, checkpoint.sha256),
        tuple(dict.fromkeys(path for group in files for path in group)),
        options.method,
        asdict(method),
        None if classifier is None else (classifier.card.name, classifier.sha256),
        component="largest" if options.largest else "all",
        draws=draws if options.draws is None else options.draws,
        **choices,
    )
    begin = time.monotonic()
    job = SaliencyRun(plan, case, checkpoint, classifier)
    step = last(job)
    found = job.explanation(step)
    names = write_saliency(options.out, case, job.record, job.prepared.roi, found.map, found.mask)
    took = f"{time.monotonic() - begin:.1f} s on {job.device}, {step.passes} passes of a network"
    print(f"{int(found.mask.sum())} voxels above the threshold in {took}; {len(names)} files in {options.out}")


def classifier_path(options: argparse.Namespace, model: Path) -> Path | None:
    """The classifier asked for, else the one beside the model, for methods that need one; None for the others.

    Raises:
        PlanError: none was given and none lies beside the model.
    """
    from diffseg.card import read_card
    from diffseg.saliency import SALIENCY

    if options.classifier is not None:
        return find_model(options.classifier)
    needs = SALIENCY[options.method].needs
    beside = model.with_name(f"{model.stem}-classifier{model.suffix}")
    if "classifier" not in needs or read_card(model)[0].task == "classifier":
        return None
    if not beside.is_file():
        raise PlanError(
            f"The method {options.method} needs a classifier, and there is no {beside.name} beside the model; give one "
            "with --classifier, or choose --method cdm."
        )
    return beside


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The knobs that were set, by their own options or by ``--set``; text is read as a number where it is one."""
    found: dict[str, Any] = {}
    for key, text in parse_changes(options.changes).items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found | {k: getattr(options, k) for k in KNOBS if getattr(options, k) is not None}


def last(job: Any, until: int | None = None) -> Any:
    """The final step, or the one ``until`` which a map had come, with a progress bar where somebody watches."""
    with tqdm(unit="step", disable=None, leave=False) as bar:
        for step in job.explain():
            bar.total = step.total
            if step.done < bar.n:
                bar.reset(step.total)  # the CPU began again
            bar.update(step.done - bar.n)
            if step.note:
                bar.write(step.note)
            if until is not None and step.done >= until:
                break
    return step

"""Verbs that need nothing but the session: what keys, menus and the palette ask for. No Qt, no napari."""

from __future__ import annotations

from napari_diffseg import checking, commands, ensemble_commands, mask_tools, saliency_commands, transport
from napari_diffseg.runs import command
from napari_diffseg.session import Session
from napari_diffseg.state import Message


def possible(session: Session, verb: str) -> bool:
    """Whether ``verb`` can act now; says why not."""
    why = session.blockers(verb)
    if why:
        session.message = Message(why[0], "warning")
    return not why


def play_or_pause(session: Session) -> None:
    """Denoise to a mask; pause what runs; go on with what waits."""
    {"running": commands.pause, "paused": commands.resume}.get(session.job.state, commands.play)(session)


@command("reset")
def show_first(session: Session) -> None:
    """Show the starting noise."""
    commands.show_step(session, 0)


@command("reset")
def show_newest(session: Session) -> None:
    """Show the newest step."""
    commands.show_step(session, transport.newest(session))


@command("reset")
def step_back(session: Session) -> None:
    """Show the step before."""
    commands.step_back(session)


@command()
def step_forward(session: Session) -> None:
    """Show the next step, and compute it if need be."""
    if session.step >= transport.newest(session) and (why := session.blockers("step")):
        session.message = Message(why[0], "warning")
    else:
        commands.advance(session)


def toggle_follow(session: Session) -> None:
    """Show each new step as it is computed, or not."""
    commands.set_follow(session, not session.follow)


@command("reset")
def toggle_side_by_side(session: Session) -> None:
    """Scan, x_t and x̂0 beside each other, or on each other."""
    commands.set_side_by_side(session, not session.side_by_side)


def toggle_seed_lock(session: Session) -> None:
    """Start every trajectory from the same noise, or each from another."""
    commands.lock_seed(session, not session.seed_locked)


def toggle_stop_early(session: Session) -> None:
    """Stop the ensemble once it has settled, or not."""
    ensemble_commands.set_stop_early(session, not session.ensemble.stop_early)


def toggle_relative_area(session: Session) -> None:
    """Count masks that are much smaller than the largest as empty, or not."""
    ensemble_commands.set_relative_area(session, not session.ensemble.relative_area)


@command()
def toggle_variance(session: Session) -> None:
    """Show where the masks differ, or hide it."""
    if session.snapshot is None:
        session.message = Message("There are no masks yet: press Grow.", "warning")
        return
    commands.show_map(session, "variance", "variance" not in session.shown)


@command()
def show_next_mode(session: Session) -> None:
    """Show the next distinct answer; after the last one, none."""
    if not session.modes:
        session.message = Message("There are no masks yet: press Grow.", "warning")
        return
    numbers = [None, *(mode.index for mode in session.modes)]
    at = numbers.index(session.mode) if session.mode in numbers else 0
    commands.show_mode(session, numbers[(at + 1) % len(numbers)])


@command("region")
def toggle_region_box(session: Session) -> None:
    """Show the region as a box that can be dragged, or hide it."""
    commands.show_region_box(session, not session.region_box)


@command()
def edit_mask(session: Session) -> None:
    """Make the mode on display editable, or else the best answer there is."""
    shown, sources = f"mode:{session.mode}", dict(session.sources())
    commands.promote(session, shown if shown in sources else next(iter(sources), "empty"))


@command()
def edit_saliency(session: Session) -> None:
    """Make what the saliency map outlines editable."""
    if session.case is not None and session.cut is None:
        session.message = Message("There is no saliency map yet: press Show saliency.", "warning")
        return
    commands.promote(session, "saliency")


@command()
def reset_threshold(session: Session) -> None:
    """Cut the saliency map where its rule says."""
    if session.saliency is None:
        session.message = Message("There is no saliency map yet: press Show saliency.", "warning")
        return
    saliency_commands.set_threshold(session, None)


@command("edit mask")
def toggle_protect(session: Session) -> None:
    """Tools leave other classes as they are, or not."""
    mask_tools.set_tools(session, protect=not session.tools.protect)


@command("edit mask")
def toggle_origin(session: Session) -> None:
    """Show who wrote which voxel, or hide it."""
    mask_tools.show_origin(session, not session.origin_shown)


@command("check")
def toggle_places(session: Session) -> None:
    """Check regions instead of slices, or the other way round."""
    checking.look_by(session, "region" if session.tools.places == "slice" else "slice")


@command("save")
def save_again(session: Session) -> None:
    """Save the mask where it was saved before."""
    mask = session.mask
    assert mask is not None
    if mask.path is None:
        session.message = Message("The mask has no file yet: press Save mask… on the page Mask.", "warning")
        return
    commands.save_mask(session, mask.path)


@command("look")
def look_axial(session: Session) -> None:
    """Seen from the feet."""
    commands.set_plane(session, "axial")


@command("look")
def look_coronal(session: Session) -> None:
    """Seen from the front."""
    commands.set_plane(session, "coronal")


@command("look")
def look_sagittal(session: Session) -> None:
    """Seen from the left."""
    commands.set_plane(session, "sagittal")


@command("look")
def look_3d(session: Session) -> None:
    """The whole volume."""
    commands.set_plane(session, "3d")

"""One observed state per viewer, without napari, Qt or torch."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy

from diffseg.grid import Box
from napari_diffseg import session as module
from napari_diffseg.session import DEPENDS, Session, session_for
from napari_diffseg.state import JobState
from napari_diffseg.verbs import VERBS
from oracle import tiny_card
from plugin_cases import case_of


def record(session: Session, *fields: str) -> list[str]:
    told: list[str] = []
    for field in fields:
        getattr(session.events, field).connect(lambda *_, name=field: told.append(name))
    return told


def test_viewers_have_sessions_of_their_own_even_through_the_proxy() -> None:
    first, second = ViewerModel(), ViewerModel()
    assert session_for(first) is session_for(PublicOnlyProxy(first))
    assert session_for(first) is not session_for(second)
    session_for(first).case = case_of((4, 5, 6))
    assert session_for(second).case is None


def test_a_session_goes_with_its_viewer() -> None:
    viewer = ViewerModel()
    session_for(viewer)
    gc.collect()  # what other tests left behind
    before = len(module._sessions)
    del viewer
    gc.collect()
    assert len(module._sessions) == before - 1


def test_a_misspelt_field_is_refused_instead_of_lost() -> None:
    with pytest.raises(AttributeError, match="sead"):
        Session().sead = 3  # type: ignore[attr-defined]


def test_only_the_gui_thread_may_assign(monkeypatch: pytest.MonkeyPatch) -> None:
    session, caught = Session(), []

    def assign() -> None:
        try:
            session.step = 3
        except AssertionError as error:
            caught.append(str(error))

    def in_thread() -> None:
        thread = threading.Thread(target=assign)
        thread.start()
        thread.join()

    monkeypatch.setenv(module.THREAD_CHECK, "1")
    in_thread()
    assert caught == ["session.step was assigned outside the GUI thread"] and session.step == 0
    monkeypatch.delenv(module.THREAD_CHECK)
    in_thread()
    assert session.step == 3


def test_records_are_told_apart_by_identity_and_plain_choices_by_value() -> None:
    session = Session()
    told = record(session, "case", "settings", "job")
    case = case_of((4, 5, 6))
    session.case = case
    session.case = case
    session.case = replace(case)
    session.settings = replace(session.settings)
    session.job = JobState()
    assert told == ["case", "case"]


FILLED: dict[str, Any] = {
    "roi": Box((0, 0, 0), (2, 2, 2)),
    "region_box": True,
    "files": (Path("scan.nii"),),
    "rater_files": (Path("r1.nii"),),
    "step": 3,
    "mode": 2,
    "shown": frozenset({"mean"}),
}


@pytest.mark.parametrize("source", sorted({s for sources in DEPENDS.values() for s in sources}))
def test_what_depends_on_a_field_is_cleared_before_its_observers_are_told(source: str) -> None:
    session = Session()
    for name in DEPENDS:
        object.__setattr__(session, name, FILLED.get(name, object()))
    at_telling: dict[str, Any] = {}
    getattr(session.events, source).connect(lambda *_: at_telling.update({n: getattr(session, n) for n in DEPENDS}))
    setattr(session, source, object())
    fresh = Session()
    for name, sources in DEPENDS.items():
        cleared = at_telling[name] == getattr(fresh, name)
        assert cleared is (source in sources), name


def test_nobody_is_told_of_a_cleared_result_while_others_that_need_it_are_still_there() -> None:
    session = Session()
    session.case, session.hint_model = case_of((4, 4)), object()  # type: ignore[assignment]
    session.saliency, session.cut = object(), object()  # type: ignore[assignment]
    seen: list[tuple[object, ...]] = []
    for signal in (session.events.saliency, session.events.cut):
        signal.connect(lambda: seen.append((session.case, session.saliency, session.cut)))
    session.case = None
    assert seen == [(None, None, None)] * 2


def test_every_verb_explains_itself_in_sentences() -> None:
    for verb in VERBS:
        for sentence in Session().blockers(verb):
            assert sentence[0].isupper() and sentence.endswith("."), verb
    with pytest.raises(KeyError):
        Session().blockers("fly")


def test_blockers_name_what_a_person_would_do_first() -> None:
    session = Session()
    assert session.blockers("play")[0].startswith("Open a scan first")
    session.case = case_of((20, 20, 20))
    assert session.blockers("play") == ["Choose a model first."]
    session.model = tiny_card()
    assert session.blockers("play") == []
    session.model = tiny_card(spatial=2)
    assert "2D" in session.blockers("play")[0] and "3D" in session.blockers("play")[0]
    session.model = tiny_card(channels=2)
    assert "2 channels (C0, C1)" in session.blockers("grow")[0]
    session.model = tiny_card()
    session.job = JobState("Ensemble", "running")
    assert session.blockers("play") == ["Ensemble is not finished: wait for it, or stop it."]
    assert session.blockers("pause") == [] and session.blockers("step") != []
    session.job = JobState("First mask", "paused")
    assert session.blockers("step") == [] and session.blockers("resume") == [] and session.blockers("grow") != []
    session.job = JobState("First mask", "cancelling")
    assert session.blockers("cancel") != []


def test_the_window_is_the_models_size_in_voxels_of_the_scan() -> None:
    session = Session()
    assert session.window() is None
    session.case = case_of((100, 20, 100), spacing_mm=(2.0, 0.5, 1.0))
    session.model = tiny_card(spacing_mm=1.0)  # 16 voxels of 1 mm
    assert session.window() == (8, 20, 16), "32 voxels of 0.5 mm do not fit the 20 there are"
    session.model = tiny_card()  # takes the scan's own spacing
    assert session.window() == (16, 16, 16)
    session.model = tiny_card(spatial=2)
    assert session.window() is None


def test_members_do_not_decide_whether_two_requests_are_one_run() -> None:
    session = Session()
    session.case, session.model, session.model_path = (
        case_of((20, 20, 20)),
        tiny_card(),
        Path("m.safetensors"),
    )
    first = session.request()
    session.settings = replace(session.settings, members=99)
    assert session.request().same_run(first)
    session.settings = replace(session.settings, seed=7)
    assert not session.request().same_run(first)
    session.settings = replace(session.settings, seed=42)
    session.roi = Box((0, 0, 0), (16, 16, 16))
    assert not session.request().same_run(first)


def test_sources_to_start_a_mask_from_are_what_there_is() -> None:
    session = Session()
    assert session.sources() == ()
    session.case = case_of((4, 4, 4))
    assert session.sources() == (("empty", "an empty mask"),)
    assert np.isscalar(session.step)

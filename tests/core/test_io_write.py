"""Writing masks and maps onto the scan's own grid."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from diffseg.case import Case, origin_of
from diffseg.errors import CaseError
from diffseg.io import read_case, read_labels, read_members, to_file_order, write_labels, write_map
from diffseg.io.atomic import atomic_file, write_text
from scans import affine_of, orientations, patch_header, rotation, save_nifti, sheared

GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info",
)  # fmt: skip
NAME = b"Jane Doe"


def labels_like(case: Case, rng: np.random.Generator, top: int = 4) -> np.ndarray:
    """Random labels on the grid of a case, with every value up to `top`."""
    labels = rng.integers(0, top + 1, case.grid.shape).astype(np.uint8)
    labels.flat[: top + 1] = np.arange(top + 1)
    return labels


def same_geometry(path: Path, source: Path) -> None:
    """Both files state the very same geometry, bit for bit."""
    one, two = nib.load(path), nib.load(source)
    first, second = (image.header.as_byteswapped("<") for image in (one, two))
    for field in GEOMETRY:
        assert first[field].tobytes() == second[field].tobytes(), field
    assert first["pixdim"][:4].tobytes() == second["pixdim"][:4].tobytes()
    assert one.affine.tobytes() == two.affine.tobytes()
    assert first.sizeof_hdr == second.sizeof_hdr


def round_trip(source: Path, target: Path, rng: np.random.Generator) -> None:
    """A mask saved on a scan has its geometry, and every voxel where the scan has it."""
    case = read_case([source])
    labels = labels_like(case, rng)
    write_labels(target, labels, case)
    same_geometry(target, source)
    saved = nib.load(target)
    np.testing.assert_array_equal(saved.get_fdata(), to_file_order(labels, case.origin))
    again = read_case([source], [target])
    np.testing.assert_array_equal(next(iter(again.raters.values())), labels)


STATEMENTS = {
    "both": (1, 1),
    "sform only": (2, 0),
    "qform only": (0, 1),
    "neither": (0, 0),
    "four and three": (4, 3),
}


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 1), (4, 5)])
@pytest.mark.parametrize("codes", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_all_48_orientations_come_back_bit_exact(
    codes: tuple[int, int], shape: tuple[int, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    for number, directions in enumerate(orientations()):
        if number % 4 != len(shape) and shape != (4, 5, 6):
            continue
        source = save_nifti(tmp_path / "scan.nii", rng.normal(size=shape), affine_of(directions), codes=codes)
        round_trip(source, tmp_path / "mask.nii", rng)


@pytest.mark.parametrize("codes", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_oblique_and_sheared_affines_come_back_bit_exact(
    codes: tuple[int, int], tmp_path: Path, rng: np.random.Generator
) -> None:
    for trial in range(12):
        matrix = rotation(rng) if trial % 2 else sheared(rng)
        affine = affine_of(matrix, tuple(rng.uniform(0.3, 4, 3)), tuple(rng.normal(scale=90, size=3)))
        source = save_nifti(tmp_path / "scan.nii", rng.normal(size=(4, 5, 6)), affine, codes=codes)
        round_trip(source, tmp_path / "mask.nii", rng)


def test_a_qform_that_disagrees_with_the_sform_is_kept_as_it_is(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    image = nib.Nifti1Image(rng.normal(size=(4, 5, 6)), None)
    image.header.set_sform(affine_of(rotation(rng)), code=4)
    image.header.set_qform(affine_of(rotation(rng)), code=1)
    nib.save(image, tmp_path / "scan.nii.gz")
    round_trip(tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz", rng)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_both_versions_of_the_format_keep_their_precision(
    image_class: Any, suffix: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save_nifti(
        tmp_path / f"scan{suffix}",
        rng.normal(size=(4, 5, 6)),
        affine_of(sheared(rng)),
        image_class=image_class,
    )
    round_trip(source, tmp_path / f"mask{suffix}", rng)


def test_units_other_than_millimetres_and_single_trailing_axes_come_back(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = save_nifti(
        tmp_path / "scan.nii", rng.normal(size=(4, 5, 6, 1)), affine_of(rotation(rng)), xyzt_units=1
    )
    case = read_case([source])
    write_labels(tmp_path / "mask.nii", labels_like(case, rng), case)
    same_geometry(tmp_path / "mask.nii", source)
    assert nib.load(tmp_path / "mask.nii").shape == (4, 5, 6)


def test_the_real_odd_files_keep_their_geometry(
    shared_dir: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = shared_dir / "data/formats"
    for name in ("real/anatomical_big_endian.nii", "real/avg152_LR.nii.gz", "real/fmri_little_endian.nii.gz",
                 "derived/oblique.nii.gz", "derived/sform_differs_from_qform.nii.gz", "derived/nifti2.nii.gz",
                 "derived/pair.hdr", "derived/scl_slope.nii.gz", "derived/stored_lps.nii.gz"):  # fmt: skip
        round_trip(folder / name, tmp_path / "mask.nii.gz", rng)


def test_another_reader_finds_the_mask_at_the_same_millimetres(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK, the second reader, is not installed")
    for directions in list(orientations())[::7]:
        scan = rng.normal(size=(9, 10, 11)).astype(np.float32)
        source = save_nifti(tmp_path / "scan.nii.gz", scan, affine_of(rotation(rng) @ directions))
        case = read_case([source])
        labels = np.zeros(case.grid.shape, np.uint8)
        labels[2, 1, 4:6] = 1
        write_labels(tmp_path / "mask.nii.gz", labels, case)
        mask = itk.ReadImage(str(tmp_path / "mask.nii.gz"))
        found = np.argwhere(itk.GetArrayFromImage(mask) == 1)[:, ::-1]
        centre_lps = mask.TransformContinuousIndexToPhysicalPoint(found.mean(axis=0))
        centre_ras = np.array(centre_lps) * (-1, -1, 1)
        # Bar of the project for a second reader: 1e-3 mm (quaternions are float32).
        np.testing.assert_allclose(centre_ras, case.grid.world((2, 1, 4.5)), atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "top", "stored"),
    [
        (np.uint8, 200, np.uint8),
        (np.uint16, 3, np.uint16),
        (np.int64, 255, np.uint8),
        (np.int32, 256, np.uint16),
        (np.float64, 4, np.uint8),
        (bool, 1, np.uint8),
    ],
)
def test_labels_are_stored_as_whole_numbers_with_slope_one(
    dtype: Any, top: int, stored: Any, tmp_path: Path
) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.float32))])
    labels = (np.arange(120).reshape(6, 5, 4) % (top + 1)).astype(dtype)
    labels.flat[0] = top
    path = tmp_path / "mask.nii.gz"
    write_labels(path, labels, case)
    saved = nib.load(path)
    assert saved.get_data_dtype() == stored
    assert (saved.dataobj.slope, saved.dataobj.inter) == (1.0, 0.0)
    np.testing.assert_array_equal(
        np.asanyarray(saved.dataobj.get_unscaled()), to_file_order(labels, case.origin)
    )


@pytest.mark.parametrize("value", [0.5, -1, 65536, np.nan])
def test_values_that_are_no_labels_are_not_written(value: float, tmp_path: Path) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.float32))])
    labels = np.zeros((6, 5, 4))
    labels[1, 2, 3] = value
    with pytest.raises(CaseError, match="not written"):
        write_labels(tmp_path / "mask.nii", labels, case)
    assert not (tmp_path / "mask.nii").exists()


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5), (4, 5, 1)])
def test_members_go_on_the_last_axis(
    shape: tuple[int, ...], tmp_path: Path, rng: np.random.Generator
) -> None:
    case = read_case(
        [save_nifti(tmp_path / "scan.nii", np.zeros(shape, np.float32), affine_of(rotation(rng)))]
    )
    members = np.stack([labels_like(case, rng) for _ in range(3)])
    write_labels(tmp_path / "members.nii.gz", members, case)
    saved = nib.load(tmp_path / "members.nii.gz")
    assert saved.shape == (*shape, 1)[:3] + (3,) and saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_members(tmp_path / "members.nii.gz", case.grid), members)


def test_maps_come_back_in_float32(tmp_path: Path, rng: np.random.Generator) -> None:
    source = save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), affine_of(rotation(rng)))
    case = read_case([source])
    values = rng.normal(size=case.grid.shape)
    write_map(tmp_path / "map.nii.gz", values, case)
    same_geometry(tmp_path / "map.nii.gz", source)
    assert nib.load(tmp_path / "map.nii.gz").get_data_dtype() == np.float32
    np.testing.assert_array_equal(read_case([tmp_path / "map.nii.gz"]).image[0], values.astype(np.float32))


def test_no_patient_text_of_the_scan_reaches_a_saved_file(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = NAME
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME))
    nib.save(image, tmp_path / "scan.nii")
    case = read_case([tmp_path / "scan.nii"])
    assert NAME in (tmp_path / "scan.nii").read_bytes()
    assert case.origin.header is not None and NAME not in case.origin.header
    write_labels(tmp_path / "mask.nii", np.zeros((6, 5, 4), np.uint8), case)
    write_map(tmp_path / "map.nii", np.zeros((6, 5, 4), np.float32), case)
    for name in ("mask.nii", "map.nii"):
        assert NAME not in (tmp_path / name).read_bytes()
        header = nib.load(tmp_path / name).header
        assert not header.extensions and not header["descrip"].item() and not header["cal_max"].item()


def test_a_case_that_came_from_no_file_is_saved_where_its_affine_says(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    for affine, code in ((affine_of(rotation(rng)), 1), (affine_of(sheared(rng)), 0)):
        origin = origin_of((4, 5, 6), affine)
        grid = origin.display_grid()
        case = Case(np.zeros((1, *grid.shape), np.float32), grid, ("image",), {}, origin, "made")
        write_labels(tmp_path / "mask.nii", np.zeros(grid.shape, np.uint8), case)
        saved = nib.load(tmp_path / "mask.nii")
        assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (1, code)
        # NIfTI-1 stores float32; coordinates near 30 mm are good to 4e-6.
        np.testing.assert_allclose(saved.affine, affine, atol=4e-6)
        assert read_case([tmp_path / "mask.nii"]).grid.same_as(grid)


@pytest.mark.parametrize("name", ["mask.img", "mask.hdr", "mask.png", "mask"])
def test_only_nifti_names_are_written(name: str, tmp_path: Path) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.float32))])
    with pytest.raises(CaseError, match=r"\.nii\.gz"):
        write_labels(tmp_path / name, np.zeros((6, 5, 4), np.uint8), case)


def test_an_array_of_another_shape_is_not_written(tmp_path: Path) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.float32))])
    for shape in ((4, 5, 6), (5, 4), (2, 4, 5, 6), (0, 6, 5, 4)):
        with pytest.raises(CaseError):
            write_labels(tmp_path / "mask.nii", np.zeros(shape, np.uint8), case)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


@pytest.fixture
def saved_mask(tmp_path: Path) -> tuple[Case, Path, bytes]:
    """A case, a mask already saved on it, and that file's bytes."""
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.float32))])
    path = tmp_path / "mask å.nii.gz"
    write_labels(path, np.ones((6, 5, 4), np.uint8), case)
    return case, path, path.read_bytes()


def untouched(path: Path, content: bytes) -> None:
    """The file is what it was and nothing is left beside it."""
    assert path.read_bytes() == content
    assert sorted(other.name for other in path.parent.iterdir()) == sorted([path.name, "scan.nii"])


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()]
)
def test_a_failure_in_the_middle_of_writing_leaves_the_old_file(
    failure: BaseException, saved_mask: tuple[Case, Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, path, content = saved_mask

    def half(image: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise failure

    monkeypatch.setattr(nib, "save", half)
    expected = CaseError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as raised:
        write_labels(path, np.zeros((6, 5, 4), np.uint8), case)
    if expected is CaseError:
        assert "No space left on device" in str(raised.value)
    untouched(path, content)


def test_a_file_that_does_not_read_back_is_not_put_in_place(
    saved_mask: tuple[Case, Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, path, content = saved_mask
    save = nib.save

    def flipped(image: Any, target: Path) -> None:
        save(type(image)(1 - np.asanyarray(image.dataobj), None, image.header), target)

    monkeypatch.setattr(nib, "save", flipped)
    with pytest.raises(CaseError, match="did not read back"):
        write_labels(path, np.ones((6, 5, 4), np.uint8), case)
    untouched(path, content)


def test_a_failing_rename_leaves_the_old_file(
    saved_mask: tuple[Case, Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, path, content = saved_mask

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CaseError, match="Permission denied"):
        write_labels(path, np.zeros((6, 5, 4), np.uint8), case)
    untouched(path, content)


def test_a_missing_folder_is_named_in_one_sentence(saved_mask: tuple[Case, Path, bytes]) -> None:
    case, path, _ = saved_mask
    with pytest.raises(CaseError, match="could not be written"):
        write_labels(path.parent / "nowhere" / "mask.nii", np.zeros((6, 5, 4), np.uint8), case)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_at_any_moment_leaves_a_whole_file(
    saved_mask: tuple[Case, Path, bytes], tmp_path: Path
) -> None:
    case, path, _ = saved_mask
    endless = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom diffseg.io import read_case, write_labels\n"
        "case = read_case([Path(sys.argv[1])])\nprint('ready', flush=True)\n"
        "while True:\n    for value in (1, 2):\n"
        "        write_labels(Path(sys.argv[2]), np.full(case.grid.shape, value, np.uint8), case)\n"
    )
    for delay_s in (0.003, 0.011, 0.027, 0.05):
        writer = subprocess.Popen(
            [sys.executable, "-c", endless, str(tmp_path / "scan.nii"), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        labels = read_labels(path, case.grid)
        assert (labels == labels.flat[0]).all() and labels.flat[0] in (1, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are of another kind there")
def test_a_new_file_has_the_usual_permissions_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_text(tmp_path / "plan.json", "one")
    finally:
        os.umask(previous)
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o640
    (tmp_path / "plan.json").chmod(0o604)
    write_text(tmp_path / "plan.json", "zwölf")
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o604
    assert (tmp_path / "plan.json").read_text(encoding="utf-8") == "zwölf"


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need rights there")
def test_a_link_stays_a_link_to_the_new_content(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with atomic_file(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"


def test_saving_twice_gives_the_same_bytes(saved_mask: tuple[Case, Path, bytes]) -> None:
    case, path, content = saved_mask
    write_labels(path, np.ones((6, 5, 4), np.uint8), case)
    assert path.read_bytes() == content


def test_impossible_geometry_never_reaches_a_saved_file(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), codes=(1, 0))
    patch_header(source, quatern_b=np.nan)  # unused while the qform code is 0, and kept
    case = read_case([source])
    write_labels(tmp_path / "mask.nii", np.zeros((6, 5, 4), np.uint8), case)
    same_geometry(tmp_path / "mask.nii", source)

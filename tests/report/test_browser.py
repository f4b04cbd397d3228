"""Reports in headless Chromium: they load nothing, say nothing on the console, and do what a reader asks."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from report.support_report import raster_pair, report, volume_pair

SCRIPT = Path(__file__).with_name("browser.cjs")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)>"


def missing() -> str | None:
    """What keeps these tests from running, or None."""
    node = shutil.which("node")
    if node is None or CHROMIUM is None:
        return f"{'node' if node is None else 'chromium'} is not installed"
    found = subprocess.run(
        [node, "-e", "require('playwright-core')"], cwd=SCRIPT.parent, capture_output=True, check=False
    )
    hint = "npm install --no-save playwright-core in the project's folder, or name its node_modules in NODE_PATH"
    return None if found.returncode == 0 else f"playwright-core is not installed: {hint}"


REASON = missing()
pytestmark = [pytest.mark.skipif(REASON is not None, reason=str(REASON)), pytest.mark.slow]


def seen(page: Path, scenario: str, tmp_path: Path) -> dict[str, Any]:
    command = ["node", str(SCRIPT), str(CHROMIUM), str(page), str(tmp_path / "profile"), scenario]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pixels(picture: str) -> np.ndarray[Any, Any]:
    return np.asarray(Picture.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")).astype(float)


def brightest_quarter(picture: str) -> int:
    """0 the upper left, 1 the upper right, 2 the lower left, 3 the lower right."""
    grey = pixels(picture).mean(axis=2)
    height, width = (n // 2 for n in grey.shape)
    parts = (grey[:height, :width], grey[:height, width:], grey[height:, :width], grey[height:, width:])
    return int(np.argmax([part.mean() for part in parts]))


def check_quiet(found: dict[str, Any], page: Path) -> None:
    outside = [url for url in found["requests"] if not url.startswith(("data:", "blob:"))]
    assert outside == [f"file://{page}"]
    assert found["errors"] == []
    assert found["dialogs"] == []
    assert (found["light"], found["dark"], found["shown"]) == ("rgb(250, 249, 246)", "rgb(19, 22, 25)", "dark")


def test_a_raster_is_swiped_zoomed_and_compared(tmp_path: Path) -> None:
    before, after = raster_pair(tmp_path, ("B2", "B3", "B4", HOSTILE))
    page = tmp_path / "page.html"
    assert report(before, after, "-o", page) == 0
    found = seen(page, "raster", tmp_path)
    check_quiet(found, page)
    assert (found["start"], found["left"], found["right"]) == ("50", "48", "78")
    assert found["outline"] == "solid"
    assert 20 <= int(found["dragged"]) <= 30
    assert np.abs(pixels(found["first"]) - pixels(found["swiped"])).max() > 40
    assert pixels(found["first"]).std() > 10
    assert found["zoomed"] == "150 %"
    assert int(found["wheeled"].split()[0]) > 150
    assert found["reset"] == "100 %"
    assert found["legend"]
    assert not found["handle"]
    assert found["smoothed"]
    assert found["printed"] == ["none", "block"]


@pytest.mark.parametrize(("scenario", "kind"), [("volume", "niivue"), ("slices", "slices")])
def test_a_volume_is_seen_with_and_without_webgl(scenario: str, kind: str, tmp_path: Path) -> None:
    before, after = volume_pair(tmp_path)
    page = tmp_path / "page.html"
    assert report(before, after, "-o", page) == 0
    found = seen(page, scenario, tmp_path)
    check_quiet(found, page)
    assert (found["kind"], found["panels"], found["fallback"]) == (kind, 3, kind == "slices")
    assert (found["letters"], found["coronal"]) == (["A", "P", "R", "L"], ["S", "I", "R", "L"])
    assert np.abs(pixels(found["first"]) - pixels(found["moved"])).max() > 40
    # The patient's right front is the brightest, and is at the upper left, whoever draws it.
    assert brightest_quarter(found["first"]) == 0
    assert all(float(value) == float(value) for value in found["values"])
    assert found["printed"] == ["none", "block"]

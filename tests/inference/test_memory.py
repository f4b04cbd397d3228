from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from geomedsr.inference.memory import _cgroup_rooms, available, is_exhausted, steady_heap


def group(folder: Path, limit: str, names: tuple[str, str], cache: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text("300\n")
    (folder / "memory.stat").write_text(f"anon 200\n{cache} 100\n")


def test_the_second_version_s_limits_count_on_every_level(tmp_path: Path) -> None:
    names = ("memory.max", "memory.current")
    group(tmp_path / "tree/job", "max", names, "inactive_file")
    group(tmp_path / "tree", "1000", names, "inactive_file")
    (tmp_path / "self").write_text("0::/job\n")
    assert _cgroup_rooms(tmp_path / "tree", tmp_path / "self") == [800]


def test_a_group_may_be_slowed_down_before_it_is_stopped(tmp_path: Path) -> None:
    for limit, told in (("memory.max", "2000"), ("memory.high", "1000")):
        group(tmp_path / "job", told, (limit, "memory.current"), "inactive_file")
    (tmp_path / "self").write_text("0::/job\n")
    assert _cgroup_rooms(tmp_path, tmp_path / "self") == [1800, 800]


def test_the_first_version_has_a_tree_for_memory(tmp_path: Path) -> None:
    group(tmp_path / "memory", "2000", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file")
    (tmp_path / "self").write_text("5:cpu:/elsewhere\n4:memory:/of/the/host\n")
    assert _cgroup_rooms(tmp_path, tmp_path / "self") == [1800]


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert _cgroup_rooms(tmp_path, tmp_path / "none") == []
    assert 0 < available() <= psutil.virtual_memory().total


ULIMIT = """
import resource, sys
import numpy as np, psutil, torch
from geomedsr.cli import run_command
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.inference.memory import available
from geomedsr.io import format_of
from pathlib import Path

source, out = sys.argv[1:]
sink = format_of(Path(source)).create_sink(Path(source), Image.of(np.zeros((1, 2048, 2048))).spec)
sink.write(Box.whole((2048, 2048)), np.ones((1, 2048, 2048), np.float32))
sink.commit()
run_command(["upscale", source, "-o", out, "-m", "cubic", "--scale", "2", "-n"])
limit = psutil.Process().memory_info().vms + (220 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert available() < 221 << 20
sys.exit(run_command(["upscale", source, "-o", out, "-m", "cubic", "--scale", "2", "--tile", "2048"]))
"""


def test_a_run_within_a_limit_of_its_own_takes_smaller_tiles(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "in.tif"), str(tmp_path / "out.tif")]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ULIMIT, *arguments], capture_output=True, text=True, check=False, env=settings
    )
    assert done.returncode == 0, done.stderr
    assert "Memory ran out with windows of (2048, 2048) voxels; going on with (" in done.stderr
    assert (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_exhausted(error) is expected


def test_the_heap_works_as_before_and_after() -> None:
    with steady_heap():
        assert torch.ones(1 << 24).sum() == 1 << 24
    assert torch.ones(1 << 24).sum() == 1 << 24


def test_threads_share_one_heap_when_asked() -> None:
    """In a process of its own: it cannot be undone."""
    code = """
import ctypes, sys, threading
from geomedsr.inference.memory import share_heap
libc = ctypes.CDLL(None)
if not hasattr(libc, "mallopt"):
    sys.exit(0)
share_heap()
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
found = []
threads = [threading.Thread(target=lambda: found.append(libc.malloc(5000))) for _ in range(4)]
for thread in threads:
    thread.start()
    thread.join()
heap = next(line.split()[0].split("-") for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]"))
assert all(int(heap[0], 16) <= one < int(heap[1], 16) for one in found), found
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""What is free, and what a step needs of it."""

import psutil
import pytest
import torch

from sk_unlearn.unlearners._memory import MemoryForecast, control_group_free, free_memory


def group(folder, limit, used, cached, version):
    folder.mkdir(parents=True)
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}[version]
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    key = "total_inactive_file" if version == 1 else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{key} {cached}\n")


@pytest.mark.parametrize(("version", "line"), [(1, "4:cpu,memory:/a/b"), (2, "0::/a/b")])
def test_the_tightest_limit_above_the_process_counts(tmp_path, version, line):
    top = tmp_path / "memory" if version == 1 else tmp_path
    group(top / "a", 1000, 800, 100, version)
    group(top / "a" / "b", 2000, 50, 0, version)
    membership = tmp_path / "membership"
    membership.write_text(f"9:pids:/\n{line}\n")
    assert min(control_group_free(10**6, tmp_path, membership)) == 300
    assert sorted(control_group_free(10**6, tmp_path, membership)) == [300, 1950]


def test_no_limit_and_no_control_groups(tmp_path):
    group(tmp_path / "a", "max", 800, 100, 2)
    membership = tmp_path / "membership"
    membership.write_text("0::/a\n")
    assert list(control_group_free(10**6, tmp_path, membership)) == []
    assert list(control_group_free(10**6, tmp_path, tmp_path / "nowhere")) == []


def test_a_limit_above_all_there_is_binds_nothing(tmp_path):
    group(tmp_path / "memory" / "a", 2**63 - 4096, 800, 0, 1)
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/a\n")
    assert list(control_group_free(10**6, tmp_path, membership)) == []


def test_a_group_over_its_limit_has_nothing_free(tmp_path):
    group(tmp_path / "a", 100, 800, 0, 2)
    membership = tmp_path / "membership"
    membership.write_text("0::/a\n")
    assert list(control_group_free(10**6, tmp_path, membership)) == [0]


def test_free_memory_is_no_more_than_the_system_has(monkeypatch):
    total = psutil.virtual_memory().total
    assert 0 < free_memory(torch.device("cpu")) <= total
    available = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert free_memory(torch.device("cpu")) <= 1000


def test_unknown_where_the_system_does_not_tell(monkeypatch):
    def hidden():
        raise OSError("no /proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert MemoryForecast.of(torch.zeros(3), 10).available is None


def test_forecast_counts_vectors_in_their_precision():
    single, double = (MemoryForecast.of(torch.zeros(100, dtype=dtype), 10) for dtype in (torch.float32, torch.float64))
    assert (single.dense, double.dense) == (100 * 100 * 20, 100 * 100 * 24)
    assert (single.krylov, double.krylov) == (16 * 400, 16 * 800)
    assert (single.gradient_descent, double.gradient_descent) == (1600, 3200)

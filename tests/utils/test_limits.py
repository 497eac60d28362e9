"""Limits on the memory of this process, told by folders and numbers that stand for the system's."""

import pytest

from sk_unlearn.utils._limits import address_space_limit, control_group_free, memory_limit


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


def test_the_limit_on_the_address_space_is_followed_as_soon_as_it_is_set(monkeypatch):
    resource = pytest.importorskip("resource")
    for limit in (2**20, 2**21):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, resource.RLIM_INFINITY))
        assert address_space_limit() == limit
        assert memory_limit() == limit
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert address_space_limit() is None

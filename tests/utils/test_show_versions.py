import importlib.metadata
import platform

import pytest
import torch

import sk_unlearn


def tables(text):
    """Return what was printed as a dictionary of dictionaries."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith(" "):
            table = found.setdefault(line.rstrip(":"), {})
        elif line:
            name, _, value = line.partition(": ")
            table[name.strip()] = value
    return found


def test_all_that_a_bug_report_needs(capsys):
    assert sk_unlearn.show_versions() is None
    printed = tables(capsys.readouterr().out)
    assert list(printed) == ["System", "Python dependencies", "torch"]
    assert printed["System"]["python"].startswith(platform.python_version())
    assert printed["System"]["machine"] == platform.platform()
    versions = printed["Python dependencies"]
    assert versions.pop("sk_unlearn") == sk_unlearn.__version__
    assert list(versions) == ["numpy", "scipy", "pandas", "scikit-learn", "skorch", "torch", "joblib"]
    assert versions == {name: importlib.metadata.version(name) for name in versions}
    assert printed["torch"]["threads"] == str(torch.get_num_threads())
    assert printed["torch"]["CUDA available"] == str(torch.cuda.is_available())


def test_the_device_is_named_where_there_is_one(capsys, monkeypatch):
    for available, name in ((False, "none"), (True, "A Fast One")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Fast One")
        sk_unlearn.show_versions()
        assert tables(capsys.readouterr().out)["torch"]["CUDA device"] == name


@pytest.mark.gpu
def test_the_real_device(capsys):
    sk_unlearn.show_versions()
    assert tables(capsys.readouterr().out)["torch"]["CUDA device"] == torch.cuda.get_device_name()

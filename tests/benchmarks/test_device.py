"""One GPU: the short run, which needs none, has every row of both tables."""

from benchmarks import device


def test_a_short_run(tmp_path, capsys):
    found = device.main(["--quick", "--device", "cpu", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "no GPU" in printed
    assert (tmp_path / "device.json").exists()
    what = {record["what"]: record for record in found["products"]}
    assert set(what) == {
        "PyTorch's backward pass", "gradient", "linearisation", "Hessian product", "Gauss-Newton product",
    }  # fmt: skip
    assert all(record["tflops"] > 0 and f"| {name} |" in printed for name, record in what.items())
    # Of the same rows: the counter sees the same operations in both gradients.
    assert what["gradient"]["operations"] == what["PyTorch's backward pass"]["operations"]
    assert what["gradient"]["operations"] < what["Hessian product"]["operations"]
    assert [record["request"] for record in found["requests"]] == ["class 3", "1 % at random"]


def test_the_net_has_the_parameters_that_it_is_known_for():
    assert sum(p.numel() for p in device.ResNet18(64).parameters()) == 11_173_962

"""What an audit costs: the short run times every part, and what is printed are its ratios."""

import json
import re

from benchmarks import audit


def test_a_short_run(tmp_path, capsys):
    found = audit.main(["--quick", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert [each["request"] for each in found["costs"]] == ["class 3"]
    for each in found["costs"]:
        assert 0 < each["handed in"]["processor"] < each["audit"]["processor"]
        ratio = each["audit"]["processor"] / each["references"]["processor"]
        assert f"({ratio:.2f} times)" in printed
    assert found["shadows"]["gap"] < 0.05
    assert len(re.findall(r"factor \d", printed)) == 2
    (calibration,) = found["calibration"]
    assert all(sum(calibration[kind].values()) == 2 for kind in ("retrained", "forgot nothing"))
    assert re.search(r"blobs, a class: of 2 retrained models \d pass", printed)
    assert json.loads((tmp_path / "audit.json").read_text())["costs"] == found["costs"]

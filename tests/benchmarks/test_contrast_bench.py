"""The bench times what it says."""

from benchmarks.__main__ import main


def test_a_row_for_each_batch(capsys, tmp_path):
    words = ["videos=[4,8]", "dim=8", "repeats=2", "device=cpu", f"out={tmp_path}"]
    assert main(["contrast", *words]) == 0
    assert "embeddings of 8 on cpu" in capsys.readouterr().out
    rows = (tmp_path / "contrast.md").read_text().splitlines()[2:4]
    assert [row.split()[1] for row in rows] == ["4", "8"]

"""The bench times what it says."""

from avssl.cli import main


def test_a_line_for_each_batch(capsys):
    assert main(["bench", "contrast", "videos=[4,8]", "dim=8", "repeats=2", "device=cpu"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["4", "8"]
    assert all("ratio" in line for line in said)

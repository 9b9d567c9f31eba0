from avssl.core.columns import columns


def test_cells_are_aligned():
    assert columns(["run", "loss"], [["a", "1.5"], ["bcd", "10"]], right=(1,)) == "run  loss\na     1.5\nbcd    10"


def test_a_long_name_has_a_line_of_its_own():
    name = "x" * 75
    lines = columns(["run", "state"], [[name, "running"], ["b", "lost"]]).splitlines()
    assert name in lines
    assert max(map(len, lines)) <= 80
    assert lines[2].strip() == "running"


def test_wide_characters_take_two_columns():
    lines = columns(["run", "n"], [["日本", "1"], ["abcd", "2"]]).splitlines()
    assert lines[1] == "日本  1"
    assert lines[2] == "abcd  2"

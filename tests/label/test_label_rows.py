"""Labels as Python and notebooks show them."""

import avssl
from avssl.label.label_rows import SHOWN, LabelRows
from avssl.label.new_videos import Labelled


def row(path="a.mp4", label=3, **more):
    return Labelled(path, 0.0, label, 0.75, 3, 1, "both", -0.5, **more)


def test_rows_are_a_list_that_prints_as_a_table():
    rows = LabelRows([row(name="cats"), row("b.mp4", -1, reason="no file"), row("c.mp4", none_of_these=True)])
    assert rows == [*rows]
    assert rows[0].label == 3
    assert rows.to_dicts()[0]["label_audio"] == 1
    lines = repr(rows).splitlines()
    assert lines[0].split() == ["path", "label", "name", "confidence", "note"]
    assert "no file" in lines[2]
    assert "none of these" in lines[3]
    assert max(map(len, lines)) <= 80
    assert repr(LabelRows()) == "no labels"


def test_html_is_escaped_and_long_lists_are_cut():
    page = LabelRows([row("<script>", name="<b>")] * (SHOWN + 7))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<tr>") == SHOWN + 1
    assert "7 more" in page


def test_windows_say_where_they_begin():
    rows = LabelRows([Labelled("a.mp4", start, 0, 0.5, None, None, "video", None) for start in (0.0, 2.5)])
    assert "2.5" in repr(rows)
    assert "from s" in repr(rows)


def test_load_is_listed():
    assert "load" in dir(avssl)
    assert set(avssl.__all__) <= set(dir(avssl))

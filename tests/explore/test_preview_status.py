from avssl.explore import preview_status
from avssl.explore.preview_status import PreviewStatus
from avssl.explore.previews import Preview, make_previews
from tests.conftest import write_video


def test_the_state_says_what_is_there_and_at_last_what_is_not(monkeypatch):
    monkeypatch.setattr(preview_status, "EVERY", 0.0)
    written: list[dict] = []
    status = PreviewStatus({"a": 5, "b": 2, "c": 9}, {"c"}, written.append)
    assert {k: v for k, v in status.state().items() if k != "time"} == {
        "total": 3, "finished": False, "made": [], "failed": [], "silent": [9],
    }  # fmt: skip
    status("a", "")
    status("b", "no frames")
    assert (written[-1]["made"], written[-1]["failed"]) == ([5], [2])
    status("c", "")
    status.write(finished=True)
    assert (written[-1]["made"], written[-1]["failed"], written[-1]["finished"]) == (None, [2], True)


def test_it_is_written_now_and_then():
    written: list[dict] = []
    status = PreviewStatus({str(i): i for i in range(1000)}, set(), written.append)
    for i in range(1000):
        status(str(i), "")
    assert len(written) < 20


def test_making_previews_reports_each_and_also_those_that_were_there(tmp_path):
    video = write_video(tmp_path / "a.mp4", seconds=1.5)
    wanted = {
        f"00000/{name}": Preview(path, 0.0, 1.0, True, str(tmp_path / f"p/00000/{name}"))
        for name, path in (("x", video), ("gone", tmp_path / "no.mp4"))
    }
    stamps = {name: [name, 1, 1] for name in wanted}
    for _ in range(2):
        told: dict[str, str] = {}
        missing = make_previews(tmp_path / "p", wanted, stamps, 1, told.__setitem__)
        assert told.keys() == wanted.keys()
        assert told["00000/x"] == ""
        assert missing == {"00000/gone": told["00000/gone"]}

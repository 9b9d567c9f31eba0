import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from avssl.evaluate.clustering import clustering_table
from avssl.export.assignments import Assignments
from avssl.export.page import ClusterCard, Member, Page, make_cards, write_page

HOSTILE = '"><img src=x onerror=alert(1)>.mp4'


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._raw, self.raw = [], "", None, {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._raw = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._raw = None

    def handle_data(self, data):
        if self._raw:
            self.raw[self._raw] = self.raw.get(self._raw, "") + data
        else:
            self.text += data

    def all(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def frames(count, height=36, width=48):
    return np.arange(count * height * width * 3, dtype=np.uint32).reshape(count, height, width, 3).astype(np.uint8)


@pytest.fixture
def page(tmp_path):
    members = [
        Member(tmp_path / HOSTILE, "dog", 0.0, 0.9, frames(4)),
        Member(tmp_path / "a b#c%?é\n.mp4", "<script>alert(2)</script>", 12.5, 0.8, frames(1)),
        Member(Path("relative.mp4"), None),
    ]
    cards = [
        ClusterCard(0, 3, {"joint": 0.8, "video": 0.7, "audio": 0.6}, {"dog": 2, "cat": 1}, members),
        ClusterCard(4, 9, {"joint": 0.5}, {"</style><b>": 9}, members[:1]),
        ClusterCard(2, 0),
    ]
    return Page("runs/<i>x</i>", "</title>$data & co", 5, cards, None, np.full(5, 0.2), 2, ["head <0>"])


def test_nothing_in_the_data_becomes_markup(tmp_path, page):
    text = write_page(tmp_path / "out" / "clusters.html", page).read_text("utf-8")
    found = Elements(text)
    assert all(not name.startswith("on") for _, attributes in found.tags for name in attributes)
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert len(found.all("title")) == 1 + 2  # the document's and the two bars'
    assert not found.all("i")
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in found.all("img"))
    assert HOSTILE in found.text
    assert "<script>alert(2)</script>" in [
        a["data-search"].split("\n.mp4 ")[-1] for a in found.all("li") if a.get("data-search")
    ]
    assert "</title>$data & co" in found.text
    assert HOSTILE in [a["alt"] for a in found.all("img")]


def test_asks_the_network_for_nothing_and_runs_only_its_own_script(tmp_path, page):
    found = Elements(write_page(tmp_path / "clusters.html", page).read_text("utf-8"))
    assert not found.all("link")
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    digest = base64.b64encode(hashlib.sha256(found.raw["script"].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"'sha256-{digest}'" in policy
    assert "url(" not in found.raw["style"]
    assert not [a for _, a in found.tags for k in ("src", "href") if re.match("https?:|//", a.get(k) or "")]


def test_links_lead_to_the_files(tmp_path, page, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Elements(write_page("clusters.html", page).read_text("utf-8"))
    links = [urlsplit(a["href"]) for a in found.all("a") if a["href"].startswith("file:")]
    paths = [unquote(link.path) for link in links]
    name = "a b#c%?é\n.mp4"
    assert paths == [str(tmp_path / n) for n in (HOSTILE, HOSTILE, name, "relative.mp4")]
    assert [link.fragment for link in links] == ["", "", "t=12.5", ""]


def test_cards_sizes_and_figures(tmp_path, page):
    found = Elements(write_page(tmp_path / "clusters.html", page).read_text("utf-8"))
    cards = found.all("article")
    assert [a["id"] for a in cards] == ["cluster-4", "cluster-0"]  # by size, without the empty one
    assert float(cards[1]["data-purity"]) == pytest.approx(2 / 3, abs=1e-5)
    assert len(found.all("rect")) == 2
    assert len(found.all("polyline")[0]["points"].split()) == 10
    for fact in ("12 videos", "5 clusters", "3 of them empty", "2 files could not be decoded", "head <0>", "67%"):
        assert fact in found.text
    assert [a["value"] for a in found.all("option")] == ["size", "confidence", "purity", "number"]
    assert "no preview" in found.text


def test_filmstrip_holds_the_frames_side_by_side(tmp_path, page):
    found = Elements(write_page(tmp_path / "clusters.html", page).read_text("utf-8"))
    strips = found.all("span", **{"class": "strip plays"})
    assert len(strips) == 2
    assert "--frames:4;--middle:2;--aspect:48/36" in strips[0]["style"]
    image = Image.open(io.BytesIO(base64.b64decode(found.all("img")[0]["src"].split(",")[1])))
    assert image.size == (4 * 48, 36)


def assignments(labelled=True):
    nan = np.nan
    return Assignments(
        path=["a.mp4", "b.mp4", "b.mp4", "c.mp4", "broken.mp4", "d.mp4"],
        split=["train"] * 6,
        classes=["dog", "dog", "dog", "cat", "cat", None] if labelled else [None] * 6,
        window_start=[0, 0, 10, 0, 0, 0],
        label=[[0], [0], [0], [0], [-1], [3]],
        label_video=[[0], [0], [0], [0], [-1], [3]],
        label_audio=[[0], [0], [1], [0], [-1], [3]],
        confidence_joint=[[0.5], [0.8], [0.9], [0.7], [nan], [0.6]],
        confidence_video=[[0.5], [0.5], [0.5], [0.5], [nan], [0.5]],
        confidence_audio=[[0.1], [0.2], [0.3], [0.4], [nan], [0.5]],
        clusters=4,
    )


def test_make_cards_takes_the_most_confident_videos_once_each():
    asked = []
    cards = make_cards(assignments(), 0, 2, lambda row: asked.append(row), "/root")
    assert [(card.cluster, card.size) for card in cards] == [(0, 4), (3, 1)]
    assert [m.path for m in cards[0].members] == [Path("/root/b.mp4"), Path("/root/c.mp4")]
    assert cards[0].members[0].window_start == 10
    assert asked == [2, 3, 5]
    assert (cards[0].majority, cards[0].purity) == ("dog", 0.75)
    assert cards[0].confidence == pytest.approx({"joint": 0.725, "video": 0.5, "audio": 0.25})
    assert (cards[1].majority, cards[1].purity) == (None, None)
    assert make_cards(assignments(), 0, 0, lambda row: asked.append(row))[0].members == []
    assert len(asked) == 3


@pytest.mark.parametrize("labelled", [True, False])
def test_page_of_a_run(tmp_path, labelled):
    a = assignments(labelled)
    table = clustering_table(
        {"joint": a.label, "video": a.label_video, "audio": a.label_audio}, a.class_ids()[0] if labelled else None
    )
    cards = make_cards(a, 0, 8, lambda row: frames(1))
    found = Elements(write_page(tmp_path / "clusters.html", Page("run", "data", 4, cards, table)).read_text("utf-8"))
    assert ("NMI" in found.text) == labelled
    assert ("purity" in found.text) == labelled
    assert len(found.all("img")) == 4
    assert len(found.all("tr")) == 1 + 3


def test_every_head_is_there_and_the_unmarked_ones_fold_away(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (50, 4))
    table = clustering_table({"joint": labels}, labels[:, 1], np.array([4.0, 3, 1, 2]))
    found = Elements(write_page(tmp_path / "clusters.html", Page("run", "data", 3, [], table)).read_text("utf-8"))
    assert len(found.all("details")) == 1
    assert len(found.all("tr", **{"class": "plain"})) == 2
    assert len(found.all("tr", **{"class": "starts chosen"})) == 1


def test_a_name_that_is_not_unicode_does_not_stop_the_page(tmp_path):
    member = Member(tmp_path / "a\udcff.mp4", frames=frames(1))
    path = write_page(tmp_path / "clusters.html", Page("r", "d", 1, [ClusterCard(0, 1, members=[member])]))
    assert "a%FF.mp4" in path.read_text("utf-8")

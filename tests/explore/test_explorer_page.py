"""The explorer in a real browser, from the file system."""

import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from avssl.explore.assignments import Assignments
from avssl.explore.explorer import (
    Explorer,
    chosen_rows,
    preview_name,
    write_explorer,
    write_overview,
    write_previews,
)
from avssl.explore.neighbours import places, similarity
from avssl.explore.previews import Preview, make_previews
from avssl.explore.sound_descriptions import describe_previews
from avssl.metrics.clustering import clustering_table
from tests.conftest import write_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 300_000
"""Milliseconds that a page may take on a slow machine."""
HOSTILE = "\"><img src=x onerror=window.hacked=1>'#?%é.mp4"


CURVES = {
    "train": {"step": [0, 10, 20], "loss": [2.0, None, 1.0]},
    "labelling": {"step": [0, 10, 20], "changed": [1.0, 0.5, 0.25], "nmi": [[None, 0.5, 0.9], [None, 0.4, 0.6]],
                  "entropy": [[0.9, 1.0, 1.0], [0.8, 0.9, 0.9]]},
}  # fmt: skip


def explorer_of(videos: int, clusters: int, classes: bool = True, windows: int = 1, heads: int = 2) -> Explorer:
    """Random labels of head 0, which is chosen, and the next cluster by head 1; the last cluster of both is empty."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, clusters - 1, videos)
    sure = rng.random((videos, 1)).astype(np.float32).repeat(heads, 1)
    sure[0], first[0] = 1.0, 3
    label = np.stack([(first + head) % (clusters - 1) for head in range(heads)], 1)
    other = np.where(rng.random((videos, 1)) < 0.7, label, 0)
    path = [f"train/some folder/video_{i // windows:07d}.mp4" for i in range(videos)]
    path[0] = f"train/{HOSTILE}"
    names = [f"class {c}" if classes else None for c in label[:, 0] // 2]
    start = (np.arange(videos) % windows) * 2.0
    a = Assignments(path, ["train"] * videos, names, start, label, label, other, sure, sure, sure, clusters,
                    "run", 7, 0, "0123456789abcdef")  # fmt: skip
    means = rng.normal(size=(clusters, 32))
    means[-1] = np.nan
    ids = a.class_ids()[0] if classes else None
    return Explorer(
        a, 0, "data", clustering_table({"joint": label}, ids, np.ones(heads), clusters),
        np.full(clusters, 1 / clusters), similarity(means), places(means),
        # of the hostile name alone as it should be: pathlib takes seconds for the two hundred thousand
        url=lambda row: Path("/v", path[row]).as_uri() if row == 0 else f"file:///v/{path[row]}".replace(" ", "%20"),
        seconds=np.full(videos, 2.0), curves=CURVES, command="avssl clusters run names=names.json",
    )  # fmt: skip


def build(folder: Path, videos: int, clusters: int, source: Path | None, **options) -> Path:
    """The page of `explorer_of`; each shown video's preview is of `source`."""
    explorer = explorer_of(videos, clusters, **options)
    shown = [chosen_rows(explorer, c, 3) for c in range(clusters)]
    # without previews the page may ask for none: its console stays empty
    none = {"finished": True, "failed": list(range(videos)), "silent": []}
    page = write_explorer(folder, explorer, shown, none if source is None else None)
    if source is not None:
        wanted = {
            name: Preview(source, 0.5, 1.0, True, str(folder / "previews" / name))  # the middle of two seconds
            for c, kinds in enumerate(shown)
            for places_ in kinds.values()
            for name in (preview_name(c, place) for place in places_)
        }
        path = {
            preview_name(c, place): explorer.assignments.path[row]
            for c in range(clusters)
            for place, row in enumerate(explorer.rows(c))
        }
        make_previews(folder / "previews", wanted, {name: [path[name], 0, 0] for name in wanted}, 1)
        heard = [[folder / "previews" / f"{preview_name(c, place)}.mp4" for place in kinds["confident"]]
                 for c, kinds in enumerate(shown)]  # fmt: skip
        explorer.sounds = describe_previews(heard, 1)
        write_overview(folder, explorer, shown)
    return page


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explorer") / "it's #1 %41"
    return build(folder, 60, 6, write_video(folder.parent / "source.mp4", seconds=1.5)).parent


def patient(page):
    page.set_default_timeout(PATIENCE)
    return page


@contextmanager
def opened(browser, index: Path, **options):
    """A page of a new user; what it asks for and complains of is checked at the end."""
    context = browser.new_context(accept_downloads=True, **options)
    page = patient(context.new_page())
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(index.as_uri())
    page.wait_for_selector(".card")
    yield page
    outside = [url for url in asked if not url.startswith((index.parent.as_uri(), "data:", "blob:"))]
    context.close()
    assert outside == []
    assert said == []


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder / "index.html") as page:
        yield page


def until(page, expression: str) -> None:
    """Wait for it to be true; the page's own policy refuses what playwright would wait with."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {expression}")


def shown(page) -> list[str]:
    return [card.get_attribute("data-id") for card in page.query_selector_all(".card")]


def test_clusters_are_sorted_searched_and_filtered(page):
    about = json.loads(page.evaluate("JSON.stringify(avssl.data.cluster.map(c => [c.id, c.size, c.confidence.joint]))"))
    assert shown(page) == [str(c[0]) for c in sorted(about, key=lambda c: (-c[1], c[0]))]
    page.select_option("#sort", "confidence")
    assert shown(page) == [str(c[0]) for c in sorted(about, key=lambda c: -(c[2] if c[2] is not None else -1))]
    page.fill("#search", "class 0")
    assert sorted(shown(page)) == ["0", "1"]
    page.fill("#search", "#4")
    assert shown(page) == ["4"]
    page.fill("#search", "nothing is called so")
    assert page.is_visible("#nothing")
    page.fill("#search", "video_0000042")  # a file
    page.wait_for_selector("#hits li")
    assert page.query_selector_all("#hits li .name")[0].text_content() == "train/some folder/video_0000042.mp4"
    page.fill("#search", "")
    page.select_option("#class", label="class 1")
    assert sorted(shown(page)) == ["2", "3"]
    page.select_option("#class", "")
    page.select_option("#filter", "disputed")
    assert set(shown(page)) < {str(c[0]) for c in about}


def test_a_cluster_says_what_it_sounds_like(page):
    """The previews' audio is a tone of 440 Hz; the last cluster has no videos."""
    page.evaluate("location.hash = '#cluster=2'")
    page.wait_for_selector(".heard")
    assert re.fullmatch(r"Audio: dark, sustained, −1\d dB", page.text_content(".heard"))
    numbers = page.evaluate("avssl.data.cluster[2].sound")
    assert numbers["brightness"] == pytest.approx(440, abs=60)
    assert numbers["tempo"] is None
    page.evaluate("location.hash = '#cluster=5'")
    page.wait_for_selector("#cluster .nothing")
    assert page.query_selector(".heard") is None


def test_a_cluster_plays_its_videos_and_lists_them_all(page):
    page.click('.card[data-id="2"]')
    until(page, "[...document.querySelectorAll('video')].some(v => !v.paused && v.currentTime > 0.2)")
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.muted)")
    page.click(".tile .sound >> nth=0")
    until(page, "[...document.querySelectorAll('video')].filter(v => !v.muted && !v.paused).length == 1")
    page.click(".tile .sound >> nth=1")  # one at a time
    heard = "[...document.querySelectorAll('.tile')].map(t => t.querySelector('video')?.muted === false)"
    assert page.evaluate(heard)[:2] == [False, True]
    assert page.evaluate("[...document.querySelectorAll('.tile img')].every(i => !i.complete || i.naturalWidth > 0)")
    size = page.evaluate("avssl.data.cluster[2].size")
    listed = set()
    for _ in range(20):
        until(page, "[...document.querySelectorAll('.line')].every(l => l.children.length)")
        listed |= {line.text_content() for line in page.query_selector_all(".line .name")}
        page.evaluate("document.querySelector('.list').scrollTop += 300")
        page.wait_for_timeout(50)
    assert len(listed) == size
    assert page.text_content("aside h2") == "Classes"
    page.go_back()
    page.wait_for_selector("#overview:not([hidden])")
    assert page.query_selector("video") is None  # none plays on unseen


def test_keys_do_what_the_mouse_does(page):
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = shown(page)[1]
    page.keyboard.press("s")
    assert page.evaluate("document.activeElement.dataset.id") == second
    page.keyboard.press("Enter")
    page.wait_for_selector(".tile")
    assert page.evaluate("location.hash") == f"#cluster={second}"
    page.keyboard.press("n")
    page.keyboard.type("von Hand")
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    until(page, f"location.hash == '#cluster={shown(page)[2]}'")
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    assert page.evaluate("avssl.names.file().clusters") == {second: {"name": "von Hand", "mark": "star"}}
    page.keyboard.press("u")
    assert page.evaluate("avssl.names.file().clusters") == {second: {"mark": "star"}}
    page.focus(".card")
    page.keyboard.press("n")  # opens it, to be named
    until(page, "document.activeElement.id == 'field-name'")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.wait_for_selector("#overview:not([hidden])")
    page.keyboard.press("g")
    page.wait_for_selector('#map[data-dots="60"]')  # one for each video
    until(page, "document.querySelectorAll('#map .spot').length == 5")  # the empty one has no place
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    until(page, "document.activeElement.id == 'search'")


def test_a_number_finds_its_cluster_first(page):
    for cluster in range(5):
        page.evaluate(f"location.hash = '#cluster={cluster}'")
        until(page, f"avssl.page.current == {cluster}")
        page.keyboard.press("m")
        for number in {*range(5)} - {cluster}:  # "1" is also in "class 1", and the nearest come first
            page.fill("#merge-search", str(number))
            assert page.text_content("#merge-list button >> nth=0").startswith(f"cluster {number} ")
        page.evaluate("document.getElementById('merge').close()")


def test_names_are_kept_downloaded_and_loaded(page, browser, folder, tmp_path):
    page.click('.card[data-id="1"]')
    page.fill("#field-name", '  <b>dog</b>  "barks" ')
    page.keyboard.press("Enter")
    page.fill("#field-note", "loud")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.click('.card[data-id="4"]')
    page.click("text=Merge into…")
    page.fill("#merge-search", "dog")
    page.keyboard.press("Enter")
    until(page, "location.hash == '#cluster=1'")
    page.wait_for_selector("text=Merged here")
    both = page.evaluate("avssl.data.cluster[1].size + avssl.data.cluster[4].size")
    assert page.text_content("#cluster .facts li").startswith(f"{both} videos (")
    page.keyboard.press("Escape")
    assert "4" not in shown(page)
    page.reload()
    page.wait_for_selector(".card")
    assert "4" not in shown(page)
    assert "not downloaded" in page.text_content("#saved")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "names.json")
    assert json.loads((tmp_path / "names.json").read_text()) == {
        "avssl_names": 1, "run": "run", "model": "0123456789abcdef", "step": 7, "head": 0,
        "clusters": {"1": {"name": '<b>dog</b> "barks"', "note": "loud"}, "4": {"into": 1}},
    }  # fmt: skip
    assert page.text_content("#saved") == ""
    other = patient(browser.new_context().new_page())
    other.goto((folder / "index.html").as_uri())
    other.wait_for_selector('.card[data-id="4"]')
    other.set_input_files("#file", tmp_path / "names.json")
    other.wait_for_selector('.card[data-id="4"]', state="detached")
    assert other.text_content("#toast span") == "1 name, 1 merge, 1 note loaded from names.json."
    assert other.text_content('.card[data-id="1"] .name') == '<b>dog</b> "barks"'
    (tmp_path / "of_another.json").write_text('{"avssl_names": 1, "step": 8, "head": 0, "clusters": {}}')
    other.set_input_files("#file", tmp_path / "of_another.json")
    other.wait_for_selector("text=step 8")
    files_that_are_refused_or_doubted(other)
    other.context.close()


def files_that_are_refused_or_doubted(page):
    """Each wrong file gets its sentence and changes nothing; one of an earlier version is loaded, with a warning."""
    before = page.evaluate("avssl.names.file().clusters")

    def load(text: str) -> str:
        return page.evaluate(
            """async (text) => {
              const files = new DataTransfer();
              files.items.add(new File([text], "n.json"));
              const input = document.getElementById("file");
              input.files = files.files;
              input.dispatchEvent(new Event("change"));
              await new Promise((then) => setTimeout(then, 50));
              return document.getElementById("notice").textContent;
            }""",
            text,
        )

    for clusters, message in {
        '{"0": null}': 'cluster 0 must be an object, as {"name": …}',
        '{"0": "x"}': 'cluster 0 must be an object, as {"name": …}',
        "[]": "its clusters must be an object",
        '{"0": {"into": -1}}': "into of cluster 0 is -1",
        '{"0": {"into": 1.5}}': "into of cluster 0 is 1.5",
        '{"0": {"into": 99}}': "cluster 0 is merged into 99, but there is no cluster 99",
        '{"0": {"name": 3}}': "name of cluster 0 is 3",
        '{"0": {"title": "x"}}': 'cluster 0 has "title", which is not one of name, note, mark, into',
        '{"0": {"mark": "best"}}': 'mark of cluster 0 is "best", not one of star, reject',
        '{"0": {"into": 1}, "1": {"into": 0}}': "cluster 0 is merged in a circle: remove one of the merges",
        '{"77": {}}': "there is no cluster 77",
        '{"01": {}}': '"01" is not a cluster number',
    }.items():
        assert load(f'{{"avssl_names": 1, "clusters": {clusters}}}') == f"Cannot load n.json: {message}"
        assert page.evaluate("avssl.names.file().clusters") == before
    another = json.dumps({"avssl_names": 1, "model": "f" * 16, "run": "runs/b", "clusters": {"0": {"name": "x"}}})
    assert load(another) == "Cannot load n.json: its names are of the clusters of another model, runs/b"
    assert page.evaluate("avssl.names.file().clusters") == before
    earlier = {"avssl_names": 1, "run": "runs/b", "step": 7, "head": 0, "clusters": {"0": {"name": "x"}}}
    assert load(json.dumps(earlier)).startswith("These names were made for the clusters of runs/b")
    assert page.evaluate("avssl.names.file().clusters") == {"0": {"name": "x"}}
    assert load(json.dumps(earlier | {"run": "elsewhere/run"})) == ""  # this run, moved
    assert page.text_content("#saved") == ""
    large = {"avssl_names": 1, "clusters": {"0": {"note": "x" * 6_000_000}}}
    load(json.dumps(large))
    assert "this browser cannot store these names" in page.text_content("#saved")


def test_two_tabs_keep_each_others_names(page, folder):
    page.evaluate("avssl.names.name(0, 'before')")
    second = patient(page.context.new_page())
    second.goto((folder / "index.html").as_uri())
    second.wait_for_selector(".card")
    clusters = "avssl.names.file().clusters"
    page.evaluate("avssl.names.name(1, 'first')")
    second.evaluate("avssl.names.name(2, 'second'), avssl.names.name(0, '')")
    until(page, f"{clusters}[2]?.name == 'second'")  # shown at once
    page.evaluate("avssl.names.merge(3, 2)")
    expected = {"1": {"name": "first"}, "2": {"name": "second"}, "3": {"into": 2}}
    until(second, f"{clusters}[3]?.into == 2")
    assert page.evaluate(clusters) == second.evaluate(clusters) == expected
    second.evaluate("avssl.names.undo()")  # its own last change alone
    assert second.evaluate(clusters) == expected | {"0": {"name": "before"}}
    page.reload()
    page.wait_for_selector(".card")
    assert page.evaluate(clusters) == expected | {"0": {"name": "before"}}
    second.close()


def test_a_name_of_a_file_is_only_ever_text(page):
    page.click('.card[data-id="3"]')
    page.wait_for_selector(".tile")
    assert HOSTILE in [name.text_content() for name in page.query_selector_all(".tile .name")]
    page.wait_for_selector(".line .name")
    links = [a.get_attribute("href") for a in page.query_selector_all(".tile a.name")]
    assert Path("/v/train", HOSTILE).as_uri() in links
    page.fill("#field-name", HOSTILE)
    page.keyboard.press("Enter")
    page.goto(page.url.partition("#")[0])
    page.fill("#search", "onerror")
    page.wait_for_selector("#hits li")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.query_selector("img[src=x]") is None


def test_on_a_narrow_screen_the_tools_are_in_a_menu_and_nothing_sticks_out(page):
    def fits() -> bool:
        return page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.set_viewport_size({"width": 360, "height": 700})
    until(page, "document.getElementById('more').parentElement.id == 'tools'")
    assert not page.is_visible("#sort")
    assert page.evaluate("document.querySelector('.card').getBoundingClientRect().top") < 150
    page.click("#about > summary")
    page.click("#course > summary")
    page.wait_for_selector(".plot")
    assert fits()
    page.click("#about > summary")
    page.click("#menu")
    assert all(page.is_visible(f"#{tool}") for tool in ("sort", "filter", "download", "as-map", "head"))
    assert fits()
    page.click("#as-map")
    assert not page.is_visible("#sort")
    page.wait_for_selector("#map .spot")
    assert fits()
    inside = """[...document.querySelectorAll('#map .spot')].every(spot => {
      const [frame, at] = [spot.closest('.frame'), spot].map(one => one.getBoundingClientRect())
      return at.left > frame.left && at.left < frame.right && at.top > frame.top && at.top < frame.bottom
    })"""
    assert page.evaluate(inside)
    page.evaluate("document.querySelector('#map .spot').click()")
    page.wait_for_selector(".tile")
    assert fits()


def test_what_is_left_to_name_and_the_command_afterwards(page):
    assert page.text_content("#named") == "0 of 5 named"  # the empty one needs no name
    page.click("#download")
    page.wait_for_selector("text=Nothing is named yet")
    assert not page.is_visible("#applying")
    page.keyboard.press("n")
    until(page, "document.activeElement.id == 'field-name'")
    first = page.evaluate("avssl.page.current")
    page.keyboard.press("Enter")
    page.keyboard.press("n")  # not this one
    until(page, f"document.activeElement.id == 'field-name' && avssl.page.current != {first}")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    assert page.text_content("#named") == "1 of 5 named"
    assert page.evaluate("document.activeElement.id") == "next-unnamed"  # Enter again goes on
    second = page.evaluate("avssl.page.current")
    page.keyboard.press("Enter")
    until(page, f"document.activeElement.id == 'field-name' && avssl.page.current != {second}")
    assert page.get_attribute("#named", "title") == "open the next cluster without a name (n)"
    assert not page.is_visible("#applying")
    with page.expect_download():
        page.click("#download")
    assert page.text_content("#command") == "avssl clusters run names=names.json"
    page.click("#copy")
    page.wait_for_selector("text=Copied")
    page.click("#applied")
    assert not page.is_visible("#applying")
    with page.expect_download():
        page.click("#download")
    assert page.is_visible("#applying")
    page.evaluate("avssl.names.mark(0, 'star')")
    assert not page.is_visible("#applying")  # the file lacks the star
    for number in range(5):
        page.evaluate(f"avssl.names.name({number}, 'x{number}')")
    assert page.text_content("#named") == "5 of 5 named"
    page.keyboard.press("n")
    page.wait_for_selector("text=All clusters have names.")


def test_after_a_merge_all_numbers_are_of_merged_clusters(page):
    size = page.evaluate("avssl.data.cluster.map(c => c.size)")
    page.click('.card[data-id="4"]')
    page.wait_for_selector("aside .chips")
    page.keyboard.press("m")
    alike = "[...document.querySelectorAll('#merge-list button')].filter(b => /\u00a0% similar/.test(b.textContent))"
    until(page, f"{alike}.length == 4")
    page.fill("#merge-search", "1")
    both, share = size[1] + size[4], round(100 * (size[1] + size[4]) / 60)
    assert f"together {both} videos ({share}\u00a0%) · " in page.text_content("#merge-list button >> nth=0")
    assert "class" in page.text_content("#merge-list button >> nth=0")  # which is the most frequent
    page.keyboard.press("Enter")
    until(page, "location.hash == '#cluster=1'")
    assert "cluster 4 is merged into cluster 1" in page.text_content("#toast")
    until(page, "avssl.clusters.similarity(1, 0) !== null")
    near = page.evaluate("avssl.clusters.nearest(1)")
    assert sorted(id for id, _ in near) == [0, 2, 3]  # neither itself nor the empty one
    a, b = (page.evaluate(f"avssl.data.cluster[{c}].nearest.find(([id]) => id == 2)[1]") for c in (1, 4))
    mean = (size[1] * a + size[4] * b) / both
    assert dict(map(tuple, near))[2] == pytest.approx(mean, abs=1e-4)
    page.evaluate("location.hash = '#cluster=2'")
    until(page, "avssl.page.current == 2")
    assert page.evaluate("[...document.querySelectorAll('aside .chips span')].every(s => s.textContent != 'cluster 4')")
    page.keyboard.press("Escape")
    until(page, "avssl.page.current === null")
    page.keyboard.press("g")
    until(page, "document.querySelectorAll('#map .spot').length == 4")
    assert page.get_attribute("#map", "data-dots") == "60"
    assert "5 clusters (1 merged away)" in page.text_content("#facts")
    assert page.text_content("#named") == "0 of 4 named"
    page.click("#about > summary")
    until(page, "document.querySelectorAll('#sizes rect').length == 5")
    page.click("#toast >> text=Undo")
    until(page, "avssl.page.current == 4")
    assert page.text_content("#cluster .facts li").startswith(f"{size[4]} videos (")
    assert page.text_content("#named") == "0 of 5 named"


def test_another_head_has_its_own_clusters_and_no_names(page):
    page.evaluate("avssl.names.name(2, 'of head 0')")
    size = page.evaluate("avssl.data.cluster.map(c => c.size)")
    page.select_option("#head", "1")
    page.wait_for_selector("#other-head")
    assert "Names belong to head 0" in page.text_content("#other-head")
    assert "of head 0" not in page.text_content("#grid")
    assert not page.is_visible("#download")
    assert page.evaluate("avssl.data.cluster.map(c => c.size)") == [*size[4:5], *size[:4], 0]
    page.click('.card[data-id="3"]')
    page.wait_for_selector(".tile")
    assert page.evaluate("location.hash") == "#head=1&cluster=3"
    assert page.query_selector("#field-name") is None
    page.keyboard.press("s")
    assert page.evaluate("avssl.names.file().clusters") == {"2": {"name": "of head 0"}}
    page.wait_for_selector("aside .chips")
    assert page.text_content("aside .chips li").startswith("cluster 2100\u00a0%")  # cluster 2 of head 0
    until(page, "document.querySelectorAll('.line .name').length > 5")
    videos = "[...document.querySelectorAll('.line .name')].map(n => n.textContent)"
    here = page.evaluate(videos)
    page.click("#other-head a")
    until(page, "!location.hash.includes('1') && avssl.page.current === null")
    assert page.text_content('.card[data-id="2"] .name') == "of head 0"
    page.click('.card[data-id="2"]')
    until(page, "document.querySelectorAll('.line .name').length > 5")
    assert page.evaluate(videos) == here


def test_measures_are_explained_to_a_pointer_the_keyboard_and_a_finger(page, browser, folder):
    page.hover(".card .term >> nth=0")
    assert page.text_content("#tip").startswith("How sure the model is")
    page.click(".card >> nth=0")
    page.wait_for_selector(".meters")
    page.focus('.meters [data-term="agree"]')
    assert "same cluster" in page.text_content("#tip")
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip")
    assert page.evaluate("avssl.page.current !== null")
    page.keyboard.press("?")
    assert page.evaluate("document.querySelectorAll('#guide li').length") == 11
    with opened(browser, folder / "index.html", has_touch=True, viewport={"width": 360, "height": 700}) as phone:
        phone.tap(".card .term >> nth=0")
        phone.wait_for_selector("#tip")
        assert phone.evaluate("location.hash") == ""  # the card stays closed


def test_the_course_of_the_training_is_plotted(page):
    page.click("#about > summary")
    page.click("#course > summary")
    page.wait_for_selector(".plot")
    last = "[...document.querySelectorAll('.plot b')].map(b => b.textContent)"
    assert page.evaluate(last) == ["1", "25\u00a0%", "90\u00a0%", "1.79"]  # in nats, as in the table: log 6
    assert page.text_content(".plot:last-child .most") == "1.79"
    assert "nats" in page.text_content(".plot:last-child figcaption")
    page.select_option("#head", "1")
    until(page, f"({last})[2] == '60\u00a0%'")
    assert page.evaluate(last)[3] == "1.61"  # 0.9 of it


def test_windows_have_times_and_the_map_a_dot_for_each_file(browser, tmp_path):
    index = build(tmp_path / "windows", 60, 6, None, windows=3, classes=False)
    with opened(browser, index) as page:
        assert page.text_content("#facts").startswith("60 windows of 21 videos")
        assert page.query_selector(".mostly") is None  # there are no classes
        page.click("#as-map")
        page.wait_for_selector('#map[data-dots="21"]')
        times = set(
            page.evaluate("""(async () => Promise.all([...Array(60).keys()].map(
            async at => avssl.time(await avssl.video(at)))))()""")
        )
        assert times == {"0:00–0:02", "0:02–0:04", "0:04–0:06"}
        surest = page.evaluate("[...Array(60).keys()].find(at => avssl.map.spot(at))")
        page.mouse.move(*page.evaluate(f"avssl.map.spot({surest})"))
        until(page, "/mp4 0:0\\d–0:0\\d · \\d+\u00a0% sure/.test(document.querySelector('#map .tip').textContent)")
        page.mouse.wheel(0, -200)
        until(page, "avssl.map.zoom > 1.2")
        page.focus("#map .frame")
        page.keyboard.press("0")
        until(page, "avssl.map.zoom == 1")
        page.keyboard.press("+")
        until(page, "avssl.map.zoom > 1.2")
        page.evaluate("location.hash = '#cluster=2'")
        until(page, "/0:0\\d–0:0\\d/.test(document.querySelector('.line .time')?.textContent)")
        assert page.text_content(".tile .time").startswith("0:0")


def test_previews_appear_as_they_are_made(browser, folder, tmp_path):
    making = tmp_path / "making"
    shutil.copytree(folder, making)
    state = {"total": 30, "finished": False, "made": [0], "failed": [1], "silent": [], "time": time.time()}
    write_previews(making, state)
    with opened(browser, making / "index.html") as page:
        assert page.text_content("#previews") == "Previews are being made: 2 of 30. They appear here automatically."
        assert len(page.query_selector_all(".coming")) > 3
        page.click('.card[data-id="0"]')
        page.wait_for_selector(".tile .coming")
        assert len(page.query_selector_all(".tile .box img")) == 1
        write_previews(making, state | {"finished": True, "made": None, "silent": [2], "time": time.time() + 1})
        until(page, "document.querySelectorAll('.coming').length == 0")
        assert not page.is_visible("#previews")
        assert len(page.query_selector_all(".tile .box img")) > 5
        assert page.evaluate("[...document.images].every(i => !i.complete || i.naturalWidth > 0)")
    write_previews(making, state | {"time": time.time() - 3600})  # the command was killed
    with opened(browser, making / "index.html") as page:
        assert "before avssl clusters stopped" in page.text_content("#previews")


def test_a_video_is_shown_large(page):
    page.click('.card[data-id="2"]')
    page.wait_for_selector(".tile")
    page.focus(".tile >> nth=0")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#viewer video')?.readyState > 1")
    first = page.text_content("#viewer .name")
    assert first.startswith("train/some folder/video_")
    page.keyboard.press("ArrowRight")
    until(page, f"document.querySelector('#viewer .name').textContent != {json.dumps(first)}")
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")
    assert page.evaluate("avssl.page.current") == 2


def test_a_folder_that_was_copied_in_part_says_so(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("cluster_00002_*", "previews"))
    page = patient(browser.new_page())
    page.goto((tmp_path / "part/index.html").as_uri())
    page.click('.card[data-id="2"]')
    page.wait_for_selector("text=was the whole folder copied?")
    page.goto((tmp_path / "part/index.html").as_uri() + "#cluster=3")
    page.wait_for_selector(".tile .box .none")  # and no broken picture
    page.close()


DEMO = os.environ.get("AVSSL_EXPLORER")


@pytest.mark.skipif(DEMO is None, reason="AVSSL_EXPLORER=<its folder> is not set; .ci/run sets it")
def test_the_story_of_a_run(browser, tmp_path):
    """What `avssl clusters` wrote of a training: searched, opened, played, named, merged, downloaded."""
    page = patient(browser.new_context(accept_downloads=True).new_page())
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((Path(str(DEMO)) / "index.html").resolve().as_uri())
    page.wait_for_selector(".card")
    page.fill("#search", "digit_3")
    until(page, "document.querySelectorAll('#hits li').length > 50")
    first = shown(page)[0]
    second = page.evaluate(f"avssl.data.cluster.find(c => c.id != {first}).id")
    page.click(f'.card[data-id="{first}"]')
    until(page, "[...document.querySelectorAll('video')].some(v => !v.paused && v.currentTime > 0.2)")
    page.click(".tile .sound >> nth=0")
    until(page, "[...document.querySelectorAll('video')].filter(v => !v.muted && !v.paused).length == 1")
    page.fill("#field-name", "threes")
    page.keyboard.press("Enter")
    page.click("text=Merge into…")
    page.fill("#merge-search", str(second))
    page.keyboard.press("Enter")
    until(page, f"location.hash == '#cluster={second}'")
    page.click("text=★ Star")
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "names.json")
    found = json.loads((tmp_path / "names.json").read_text())["clusters"]
    assert found == {first: {"name": "threes", "into": second}, str(second): {"mark": "star"}}
    page.screenshot(path=Path(str(DEMO)).parent / "explorer.png")
    page.context.close()
    assert said == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


@pytest.mark.slow
def test_three_hundred_clusters_of_two_hundred_thousand_videos(browser, tmp_path):
    index = build(tmp_path / "many", 200_000, 300, None)
    page = patient(browser.new_page(viewport={"width": 1280, "height": 900}))
    page.add_init_script(
        "window.long = []; new PerformanceObserver(l => l.getEntries().forEach(e => window.long.push(e.duration)))"
        ".observe({type: 'longtask', buffered: true})"
    )
    page.goto(index.as_uri())
    page.wait_for_selector(".card")
    first = page.evaluate("performance.now()")
    assert page.evaluate("document.querySelectorAll('.card').length") < 150  # the rest when it is scrolled to
    assert (
        page.evaluate("performance.getEntriesByType('resource').filter(r => r.name.includes('cluster_')).length") == 0
    )
    page.evaluate("window.long.length = 0")
    for _ in range(60):
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(30)
    until(page, "document.querySelectorAll('.card').length == 300")
    scrolling = page.evaluate("window.long")
    page.click(".card >> nth=5")
    until(page, "document.querySelectorAll('.line').length && document.querySelectorAll('.tile').length == 9")
    lines = page.evaluate("document.querySelectorAll('.line').length")
    assert lines < 80
    page.keyboard.press("Escape")
    page.fill("#search", "video_0123")
    until(page, "document.querySelector('#hits p').textContent.startsWith('1,000 files')")
    heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
    print(f"first view {first:.0f} ms; heap after a search through all: {heap:.0f} MB")
    print(f"long tasks while scrolling: {len(scrolling)}, the longest {max(scrolling, default=0):.0f} ms")
    page.close()

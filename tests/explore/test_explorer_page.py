"""The explorer in a real browser, from the file system."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from avssl.explore.assignments import Assignments
from avssl.explore.explorer import Explorer, chosen_rows, preview_name, write_explorer, write_overview
from avssl.explore.neighbours import places, similarity
from avssl.explore.previews import Preview, make_previews
from avssl.explore.sound_descriptions import describe_previews
from avssl.metrics.clustering import clustering_table
from tests.conftest import write_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "\"><img src=x onerror=window.hacked=1>'#?%é.mp4"


def build(folder: Path, videos: int, clusters: int, source: Path | None, classes: bool = True) -> Path:
    """An explorer of random labels, the last cluster empty; each shown video's preview is of `source`."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, clusters - 1, (videos, 1))
    other = np.where(rng.random((videos, 1)) < 0.7, label, 0)
    sure = rng.random((videos, 1)).astype(np.float32)
    sure[0], label[0] = 1.0, 3
    path = [f"train/some folder/video_{i:07d}.mp4" for i in range(videos)]
    path[0] = f"train/{HOSTILE}"
    names = [f"class {c}" if classes else None for c in label[:, 0] // 2]
    a = Assignments(path, ["train"] * videos, names, np.zeros(videos), label, label, other, sure, sure, sure, clusters,
                    "run", 7, 0)  # fmt: skip
    means = rng.normal(size=(clusters, 32))
    means[-1] = np.nan
    explorer = Explorer(
        a, 0, "data", clustering_table({"joint": label}, a.class_ids()[0], np.ones(1), clusters),
        np.full(clusters, 1 / clusters), similarity(means), places(means),
        # of the hostile name alone as it should be: pathlib takes seconds for the two hundred thousand
        url=lambda row: Path("/v", path[row]).as_uri() if row == 0 else f"file:///v/{path[row]}".replace(" ", "%20"),
    )  # fmt: skip
    shown = [chosen_rows(explorer, c, 3) for c in range(clusters)]
    page = write_explorer(folder, explorer, shown)
    if source is not None:
        wanted = {
            name: Preview(source, 0.0, 1.0, True, str(folder / "previews" / name))
            for c, kinds in enumerate(shown)
            for places_ in kinds.values()
            for name in (preview_name(c, place) for place in places_)
        }
        make_previews(folder / "previews", wanted, {name: [name, 0, 0] for name in wanted}, 1)
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
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explorer") / "it's #1 %41"
    return build(folder, 60, 6, write_video(folder.parent / "source.mp4", seconds=1.5)).parent


@pytest.fixture
def page(browser, folder):
    """The page of a new user; what it asks for and complains of is checked at the end."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector(".card")
    yield page
    outside = [url for url in asked if not url.startswith((folder.as_uri(), "data:", "blob:"))]
    context.close()
    assert outside == []
    assert said == []


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
    assert page.is_visible("#map")
    assert len(page.query_selector_all("#map circle")) == 5  # the empty one has no place
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    until(page, "document.activeElement.id == 'search'")


def test_a_number_finds_its_cluster_first(page):
    for cluster in range(5):
        page.evaluate(f"location.hash = '#cluster={cluster}'")
        until(page, f"avssl.page.current == {cluster}")
        page.click("text=Merge into…")
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
    assert page.text_content("#cluster .facts li") == f"{both} videos"
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
        "avssl_names": 1, "run": "run", "step": 7, "head": 0,
        "clusters": {"1": {"name": '<b>dog</b> "barks"', "note": "loud"}, "4": {"into": 1}},
    }  # fmt: skip
    assert page.text_content("#saved") == ""
    other = browser.new_context().new_page()
    other.goto((folder / "index.html").as_uri())
    other.wait_for_selector('.card[data-id="4"]')
    other.set_input_files("#file", tmp_path / "names.json")
    other.wait_for_selector('.card[data-id="4"]', state="detached")
    assert other.text_content('.card[data-id="1"] .name') == '<b>dog</b> "barks"'
    (tmp_path / "of_another.json").write_text('{"avssl_names": 1, "step": 8, "head": 0, "clusters": {}}')
    other.set_input_files("#file", tmp_path / "of_another.json")
    other.wait_for_selector("text=step 8")
    other.context.close()


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


def test_on_a_narrow_screen_nothing_sticks_out(page):
    page.set_viewport_size({"width": 360, "height": 700})
    for open_it in (None, ".card", "#as-map"):
        if open_it == "#as-map":
            page.keyboard.press("Escape")
        if open_it:
            page.click(f"{open_it} >> nth=0")
            page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_folder_that_was_copied_in_part_says_so(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("cluster_00002_*", "previews"))
    page = browser.new_page()
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
    page = browser.new_context(accept_downloads=True).new_page()
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
    page = browser.new_page(viewport={"width": 1280, "height": 900})
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
    assert page.evaluate("document.querySelectorAll('.card').length") == 300
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

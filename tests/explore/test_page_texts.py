"""What the page says of videos and clusters, and whether it can be read, in a real browser."""

from dataclasses import replace
from pathlib import Path

import pytest

from avssl.explore.explorer import chosen_rows, write_explorer
from tests.explore.test_explorer_page import browser, explorer_of, opened, until  # noqa: F401

PHONE = {"width": 360, "height": 740}
LONG = "a_name_that_is_long_and_begins_like_many_others_"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """The page of 60 videos: cluster 3 has one, and both splits have the same file names."""
    explorer = explorer_of(60, 6)
    a = explorer.assignments
    label = a.label.copy()
    label[1:][label[1:] == 3] = 0
    splits = ["train", "test"] * 30
    path = [f"{split}/a folder of some length/digit_{i // 2:04d}.mp4" for i, split in enumerate(splits)]
    path[0], path[2] = "train/a folder of some length/once.mp4", f"train/x/{LONG}0001.mp4"
    explorer = replace(explorer, assignments=replace(a, path=path, split=splits, label=label, label_video=label))
    shown = [chosen_rows(explorer, c, 3) for c in range(6)]
    none = {"finished": True, "failed": list(range(60)), "silent": []}
    return write_explorer(tmp_path_factory.mktemp("texts"), explorer, shown, none)


def open_cluster(page, cluster: int) -> None:
    page.evaluate(f"location.hash = '#cluster={cluster}'")
    until(page, f"avssl.page.current == {cluster} && document.querySelectorAll('.space .line .name').length")


def test_the_list_of_all_videos_is_as_high_as_they_need(browser, index):  # noqa: F811
    edges = "['.list', '.space .line:last-child'].map(s => document.querySelector(s).getBoundingClientRect().bottom)"
    with opened(browser, index, viewport={"width": 1000, "height": 800}) as page:
        for width in (1000, 360):
            page.set_viewport_size({"width": width, "height": 800})
            open_cluster(page, 3)
            until(page, "document.querySelectorAll('.space .line').length == 1")
            box, last = page.evaluate(edges)
            assert 0 <= box - last < 3
            open_cluster(page, 0)
            assert page.evaluate("document.querySelector('.list').clientHeight") <= 480  # and scrolls
            open_cluster(page, 3)
            page.set_viewport_size({"width": 1360 - width, "height": 800})  # the other kind of lines
            until(page, f"(([box, last]) => 0 <= box - last && box - last < 3)({edges})")


def test_the_end_of_a_long_name_stays(browser, index):  # noqa: F811
    cut = """[...document.querySelectorAll('.space .line .name')].map(name => {
      const [box, text] = [name, name.querySelector('bdi')].map(one => one?.getBoundingClientRect())
      return [text.left < box.left - 1, text.right <= box.right + 1]
    })"""
    with opened(browser, index, viewport=PHONE) as page:
        paths = [page.evaluate(f"avssl.video({at}).then(video => video.path)") for at in range(60)]
        at = next(at for at, path in enumerate(paths) if LONG in path)
        open_cluster(page, page.evaluate(f"avssl.clusterOf({at})"))
        until(page, f"[...document.querySelectorAll('.line .name')].some(n => n.textContent.includes('{LONG}'))")
        found = page.evaluate(cut)
        assert any(start for start, _ in found)
        assert all(end for _, end in found)
        page.evaluate(f"""avssl.video({at}).then(video =>
            document.querySelector('.tiles').prepend(avssl.tiles.tile(video)))""")
        assert page.text_content(".tile .name") == f"{LONG}0001.mp4"
        start, end = page.evaluate("""[...document.querySelector('.tile').querySelectorAll('.part')].map(part =>
            [part.textContent, part.scrollWidth > part.clientWidth])""")
        assert start[1]
        assert end == ["_others_0001.mp4", False]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_captions_are_alike_and_tell_files_of_one_name_apart(browser, index):  # noqa: F811
    with opened(browser, index) as page:
        seen = set()
        for cluster in range(5):
            open_cluster(page, cluster)
            expected = page.evaluate(f"Object.values(avssl.data.cluster[{cluster}].shown).flat().length")
            until(page, f"document.querySelectorAll('.tile').length == {expected}")
            for tile in page.query_selector_all(".tile"):
                path, name = tile.get_attribute("aria-label"), tile.query_selector(".name").text_content()
                assert name == path.rpartition("/")[2]
                assert tile.query_selector(".facts-line").text_content().startswith(f"{path.partition('/')[0]} · ")
                seen.add(path)
        assert {"train", "test"} == {path.partition("/")[0] for path in seen}


def test_names_replace_numbers_wherever_clusters_are_named(browser, index):  # noqa: F811
    with opened(browser, index) as page:
        open_cluster(page, 2)
        until(page, "document.querySelector('.tile .differ') && document.querySelector('.line .differ')")
        texts = ".textContent.replaceAll('\\u00a0', ' ')"
        assert page.evaluate(f"document.querySelector('.tile .differ'){texts}") == "video → 2, audio → 0"
        assert page.text_content(".line .differ") == "2 / 0"
        headings = [span.text_content() for span in page.query_selector_all(".headings span")]
        assert headings == ["sure", "video", "", "class", "from video / audio"]
        page.evaluate("avssl.names.name(0, 'zero'), avssl.names.name(2, 'two')")
        assert page.evaluate(f"document.querySelector('.tile .differ'){texts}") == "video → two, audio → zero"
        assert page.text_content(".line .differ") == "two / zero"
        assert "zero" in [span.text_content() for span in page.query_selector_all("aside .chips span")]
        page.evaluate("avssl.names.merge(0, 1)")
        assert page.text_content(".line .differ") == "two / 1"  # the cluster that the videos belong to now
        page.evaluate("avssl.names.merge(2, 1)")
        until(page, "document.querySelector('.line .differ')")
        assert page.evaluate("[...document.querySelectorAll('.differ')].every(one => one.hidden)")


def test_a_card_has_the_share_of_its_most_frequent_class(browser, index):  # noqa: F811
    with opened(browser, index) as page:
        for cluster in page.evaluate("avssl.data.cluster.filter(c => c.size).map(c => [c.id, c.classes, c.purity])"):
            number, classes, purity = cluster
            share = f"{100 * classes[0][1] / sum(n for _, n in classes):.0f}\u00a0%"
            assert share == f"{100 * purity:.0f}\u00a0%"
            of_class = page.evaluate(f"avssl.data.classes[{classes[0][0]}]")
            assert page.text_content(f'.card[data-id="{number}"] .mostly .soft') == f"{share} {of_class}"


def test_the_buttons_of_the_map_cover_no_cluster(browser, index):  # noqa: F811
    apart = """[...document.querySelectorAll('.zoom button')].every(button => {
      const [one, frame] = [button, document.querySelector('#map .frame')].map(each => each.getBoundingClientRect())
      return one.width > 0 && (one.top >= frame.bottom || one.bottom <= frame.top)
    })"""
    with opened(browser, index, viewport=PHONE) as page:
        page.keyboard.press("g")
        page.wait_for_selector("#map .spot")
        assert page.evaluate(apart)
        page.set_viewport_size({"width": 1100, "height": 740})
        assert page.evaluate(apart)
        page.click(".zoom button >> nth=0")
        until(page, "avssl.map.zoom > 1.2")

"""Heat maps over playing previews, in a real browser."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from avssl.explore.overlays import Overlay, write_overlays
from avssl.explore.previews import read_previews
from tests.conftest import write_video
from tests.explore.test_explorer_page import browser, build, opened, until  # noqa: F401

EXTENT = 0.0, 0.1, 1.0, 0.9
BOX = 0.25, 0.3, 0.75, 0.6
FIRST, LAST, OTHER = (1, 1), (2, 2), (1, 2)  # row and column, of 4 × 4, of the most similar position

# Where the canvas over a video is least transparent, as fractions of the picture, and how opaque it is there.
BRIGHTEST = """holder => {
  const canvas = holder.querySelector('canvas.overlay')
  const media = holder.querySelector('video') ?? holder.querySelector('img')
  const {width, height} = canvas
  const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true}) // else Chromium warns
  copy.drawImage(canvas, 0, 0)
  const {data} = copy.getImageData(0, 0, width, height)
  let most = 0, [x, y, n] = [0, 0, 0]
  for (let i = 0; i < width * height; i++) most = Math.max(most, data[4 * i + 3])
  for (let i = 0; i < width * height; i++)
    if (data[4 * i + 3] >= most - 1) [x, y, n] = [x + i % width, y + Math.floor(i / width), n + 1]
  const unit = canvas.width / holder.clientWidth
  const [wide, tall] = [media.videoWidth || media.naturalWidth, media.videoHeight || media.naturalHeight]
  const scale = Math.min(media.clientWidth / wide, media.clientHeight / tall)
  const [left, top] = [(media.clientWidth - scale * wide) / 2, (media.clientHeight - scale * tall) / 2]
  return [(x / n / unit - left) / (scale * wide), (y / n / unit - top) / (scale * tall), most]
}"""

# The left, top and right edge of what is white on it, and its lowest part, as fractions of a square picture.
WHITE = """holder => {
  const {width, height} = holder.querySelector('canvas.overlay')
  const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true})
  copy.drawImage(holder.querySelector('canvas.overlay'), 0, 0)
  const {data} = copy.getImageData(0, 0, width, height)
  const pixels = [...Array(width * height).keys()]
  const white = pixels.filter(i => data.subarray(4 * i, 4 * i + 4).every(value => value > 250))
  const x = white.map(i => (i % width - (width - height) / 2) / height)
  const y = white.map(i => Math.floor(i / width) / height)
  return [Math.min(...x), Math.min(...y), Math.max(...x), Math.max(...y)]
}"""


def place(position: tuple[int, int]) -> list[float]:
    """The centre of a position of the maps, as fractions of the picture."""
    return [(position[1] + 0.5) / 4, 0.1 + 0.8 * (position[0] + 0.5) / 4]


def peaks(*positions: tuple[int, int]) -> np.ndarray:
    maps = np.zeros((len(positions), 4, 4), np.uint8)
    for moment, position in enumerate(positions):
        maps[moment][position] = 255
    return maps


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """An explorer without overlays. Its previews are square, and shown in frames that are not."""
    source = write_video(tmp_path_factory.mktemp("overlays") / "source.mp4", seconds=1.5)
    return build(source.parent / "bare", 20, 4, source).parent


@pytest.fixture(scope="module")
def folder(bare) -> Path:
    """Overlays over all videos of cluster 1, and, with boxes, of cluster 0 but for the surest."""
    folder = bare.parent / "mapped"
    shutil.copytree(bare, folder)
    made = {}
    there = read_previews(folder / "previews")
    for name in overlays_of(folder):
        cluster, of = int(name[:5]), there[name]
        boxes = np.tile([np.nan] * 4 if cluster else BOX, (2, 1))
        maps, other = peaks(FIRST, LAST), peaks(OTHER, OTHER)
        made[name] = Overlay(np.array([0.2, 0.7]), maps, other, boxes, EXTENT, cluster, 0.4, of)
    write_overlays(folder, made, "These maps are weak.")
    return folder


def overlays_of(folder: Path) -> set[str]:
    """The names of the previews that the fixture gives an overlay."""
    there = read_previews(folder / "previews")
    return {name for name in there if int(name[:5]) <= 1 and name != "00000/0000000"}


def open_cluster(page, cluster: int) -> None:
    page.evaluate(f"location.hash = '#cluster={cluster}'")
    page.wait_for_selector("#cluster .tile")


def opacity(page, holder: str) -> int:
    return page.evaluate(f"({BRIGHTEST})(document.querySelector('{holder}'))[2]")


def until_brightest(page, holder: str, position: tuple[int, int]) -> None:
    """Wait until the heat map in the first `holder` is brightest at a position."""
    x, y = place(position)
    found = f"({BRIGHTEST})(document.querySelector('{holder}'))"
    until(page, f"(([x, y]) => Math.hypot(x - {x}, y - {y}) < 0.05)({found})")


def test_a_heat_map_is_in_step_with_its_video(browser, folder):  # noqa: F811
    with opened(browser, folder / "index.html", viewport={"width": 1000, "height": 800}) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
        open_cluster(page, 1)
        page.wait_for_selector("#cluster .line .name")
        assert page.get_attribute(".where button", "aria-pressed") == "false"
        assert not page.is_visible(".where input")
        assert page.query_selector("canvas.overlay") is None
        assert "cluster_00001_0.js" in asked
        assert "locate_00001.js" not in asked  # nothing is loaded before it is shown
        page.click("text=Where is the sound?")
        assert page.is_visible("text=These maps are weak.")
        maps, there = len(overlays_of(folder)), len(read_previews(folder / "previews"))
        assert page.is_visible(f"text={maps} of {there} previews have a heat map.")
        until(
            page,
            "document.querySelectorAll('.tile canvas.overlay').length == document.querySelectorAll('.tile').length",
        )
        assert asked.count("locate_00001.js") == 1
        page.click(".tile .box >> nth=0")
        until(page, "document.querySelector('#viewer video')?.readyState > 1")
        page.evaluate("document.querySelector('#viewer video').pause()")
        for seconds, expected in ((0.1, FIRST), (0.9, LAST), (0.2, FIRST)):
            page.evaluate(f"document.querySelector('#viewer video').currentTime = {seconds}")
            until_brightest(page, "#viewer .screen", expected)
        page.click("text=Full screen")  # of the video and its map, and not of the video alone
        until(page, "document.fullscreenElement?.querySelector('canvas.overlay')?.height > 700")
        until_brightest(page, "#viewer .screen", FIRST)
        page.click("text=Full screen")
        until(page, "!document.fullscreenElement")
        before = opacity(page, "#viewer .screen")
        page.keyboard.press("o")  # the audio of another video
        until_brightest(page, "#viewer .screen", OTHER)
        assert page.text_content("#viewer .where [role=status]") == "The largest similarity is 0.40 (of −1 to 1)."
        page.focus("#viewer .where input")
        page.keyboard.press("Home")  # the least opacity, and not the first video
        assert page.evaluate("document.querySelector('#viewer input').getAttribute('aria-valuetext')") == "10 %"
        assert opacity(page, "#viewer .screen") == pytest.approx(before / 8, abs=2)
        page.keyboard.press("w")
        assert page.query_selector("canvas.overlay") is None


def test_a_playing_tile_moves_its_map_and_the_choice_is_remembered(browser, folder):  # noqa: F811
    with opened(browser, folder / "index.html") as page:
        open_cluster(page, 1)
        page.keyboard.press("w")
        until(page, "document.querySelector('.tile video')?.currentTime > 0.1")
        page.wait_for_selector(".tile canvas.overlay")
        until_brightest(page, ".tile .box", FIRST)
        until_brightest(page, ".tile .box", LAST)
        page.reload()
        open_cluster(page, 0)
        until(page, "document.querySelectorAll('.unmapped').length == 1")
        assert page.text_content(".tile >> nth=0 >> .unmapped") == "no map"
        page.wait_for_selector(".tile:nth-child(2) canvas.overlay")
        until(page, f"({WHITE})(document.querySelector('.tile:nth-child(2) .box'))[0] < 1")
        left, top, right, bottom = page.eval_on_selector(".tile:nth-child(2) .box", WHITE)
        assert (left, top, right) == pytest.approx(BOX[:3], abs=0.03)
        assert BOX[3] + 0.03 < bottom < BOX[3] + 0.2  # the title of the cluster is below the box
        page.click(".tile .box >> nth=0")
        page.wait_for_selector("#viewer >> text=There is no heat map of this video.")


def test_the_page_says_which_split_is_located(browser, bare, tmp_path):  # noqa: F811
    shutil.copytree(bare, tmp_path / "other")
    name, of = min(read_previews(bare / "previews").items())
    box = np.float32([BOX])
    some = {name: Overlay(np.array([0.2]), peaks(FIRST), None, box, EXTENT, 0, 0.4, of)}
    write_overlays(tmp_path / "other", some, split="test")  # the videos of the page are of train
    with opened(browser, tmp_path / "other/index.html") as page:
        open_cluster(page, 0)
        page.click("text=Where is the sound?")
        assert page.is_visible("text=previews have a heat map: only the split test is located.")
        until(page, "document.querySelectorAll('.unmapped').length == document.querySelectorAll('.tile').length - 1")
        assert page.text_content(".unmapped") == "not located"


def test_without_motion_the_picture_has_the_map_of_its_moment(browser, folder):  # noqa: F811
    with opened(
        browser, folder / "index.html", reduced_motion="reduce", viewport={"width": 360, "height": 700}
    ) as page:
        open_cluster(page, 1)
        page.click("text=Where is the sound?")
        page.wait_for_selector(".tile canvas.overlay")
        assert page.query_selector("video") is None
        until_brightest(page, ".tile .box", LAST)  # at 0.47 s, of 0.2 to 0.7
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click(".tile .box >> nth=0")
        page.wait_for_selector("#viewer canvas.overlay")
        assert page.evaluate(
            "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.getElementById('viewer'))"
        )


def test_without_overlays_or_with_those_of_other_videos_nothing_is_shown(browser, bare, folder, tmp_path):  # noqa: F811
    with opened(browser, bare / "index.html") as page:
        open_cluster(page, 1)
        page.keyboard.press("w")
        page.keyboard.press("?")
        assert page.query_selector(".where, canvas.overlay") is None
        assert "where is the sound" not in page.text_content("#help-list")
    shutil.copytree(folder, tmp_path / "stale")
    overlays = tmp_path / "stale/data/locate_00001.js"
    overlays.write_text(overlays.read_text().replace("video_", "another_"))
    with opened(browser, tmp_path / "stale/index.html") as page:
        open_cluster(page, 1)
        page.click("text=Where is the sound?")
        until(page, "document.querySelectorAll('.unmapped').length == document.querySelectorAll('.tile').length")
        assert page.query_selector("canvas.overlay") is None
    index = tmp_path / "stale/data/locate.js"
    index.write_text(index.read_text().replace('"key":"', '"key":"0'))  # of another model
    with opened(browser, tmp_path / "stale/index.html") as page:
        open_cluster(page, 0)
        assert page.query_selector(".where") is None

"""Videos of which it is known what is shown and heard when: turned, squeezed, late, with pauses, held at the end."""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media.make_media import read_number

CLOCK = Fraction(1, 1000)
TURNS: dict[tuple[int, int, int, int], tuple[Callable, Callable]] = {
    (1, 0, 0, 1): (lambda x: x, lambda x: x),
    (-1, 0, 0, 1): (np.fliplr, np.fliplr),
    (1, 0, 0, -1): (np.flipud, np.flipud),
    (-1, 0, 0, -1): (lambda x: x[::-1, ::-1], lambda x: x[::-1, ::-1]),
    (0, 1, -1, 0): (lambda x: np.rot90(x, -1), lambda x: np.rot90(x, 1)),
    (0, -1, 1, 0): (lambda x: np.rot90(x, 1), lambda x: np.rot90(x, -1)),
    (0, 1, 1, 0): (lambda x: x.swapaxes(0, 1), lambda x: x.swapaxes(0, 1)),
    (0, -1, -1, 0): (lambda x: np.rot90(x, 2).swapaxes(0, 1), lambda x: np.rot90(x, 2).swapaxes(0, 1)),
}
"""Display matrices (a, b, c, d): what they do to a coded frame, and what undoes it."""

IDENTITY = (1, 0, 0, 1)
SIZE = (64, 48)
"""(width, height) at which scenes are shown, or turned by a quarter."""


@dataclass
class Scene:
    """A video as it was made. `times` of its frames and `held`, how long the last one is shown; sound from `heard[0]`
    to `heard[1]`, but for the `hole` (s)."""

    suffix: str = ".mp4"
    video_codec: str = "libx264"
    audio_codec: str | None = "aac"
    bframes: int = 0
    gop: int = 12
    matrix: tuple[int, int, int, int] = IDENTITY
    shape: Fraction = Fraction(1)
    times: list[float] = field(default_factory=lambda: [i / 25 for i in range(50)])
    held: float = 0.04
    heard: tuple[float, float] = (0.0, 2.0)
    hole: tuple[float, float] = (0.0, 0.0)
    offset: float = 0.0
    rate: int = 48000

    @property
    def origin(self) -> float:
        """Where the presentation starts (s)."""
        return min(self.times[0], self.heard[0]) if self.audio_codec else self.times[0]

    def shown(self, time: float, slack: float) -> set[int]:
        """The numbers of the frames that may be chosen at `time` (s since the start), give or take `slack` (s)."""
        times = np.array(self.times) - self.origin
        gaps = np.diff(times)
        leads = np.where(gaps <= 0.1, gaps / 2, 0.0)
        since = np.r_[-np.inf, times[1:] - leads] - slack
        until = np.r_[times[1:] - leads, np.inf] + slack
        return set(np.flatnonzero((since <= time) & (time <= until)).tolist())

    def sounds(self, time: float) -> bool:
        """Is there sound at `time` (s since the start)?"""
        time += self.origin
        return self.heard[0] <= time < self.heard[1] and not self.hole[0] <= time < self.hole[1]

    @property
    def usable(self) -> tuple[float, float]:
        """The stretch that has both video and audio (s since the start)."""
        begin, end = self.times[0], self.times[-1] + self.held
        if self.audio_codec:
            begin, end = max(begin, self.heard[0]), min(end, self.heard[1])
        return begin - self.origin, end - self.origin

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as shown."""
        return SIZE[:: -1 if self.matrix[0] == 0 else 1]


KINDS = [
    (".mp4", "libx264", "aac", 0), (".mp4", "libx264", "aac", 2), (".mov", "libx264", "aac", 2),
    (".mp4", "mpeg4", "aac", 0), (".mkv", "libx264", "aac", 2), (".mkv", "libvpx", "libopus", 0),
    (".webm", "libvpx-vp9", "libopus", 0), (".ts", "libx264", "aac", 2), (".ts", "mpeg2video", "mp2", 0),
    (".avi", "libx264", "pcm_s16le", 0), (".avi", "libx264", "libmp3lame", 2), (".avi", "mpeg4", "libmp3lame", 2),
    (".flv", "libx264", "aac", 0), (".mpg", "mpeg2video", "mp2", 0),
]  # fmt: skip


def drawn(seed: int) -> Scene:
    """A scene with what its container can hold: a turn, a pixel shape, a late start, a pause, a held end, a hole."""
    rng = random.Random(seed)
    suffix, video_codec, audio_codec, bframes = KINDS[seed % len(KINDS)]
    scene = Scene(suffix, video_codec, audio_codec, bframes, gop=rng.choice([6, 12, 250]))
    if suffix in (".mp4", ".mov") or (suffix == ".mkv" and hasattr(av.VideoStream, "set_display_matrix")):
        scene.matrix = rng.choice(list(TURNS))
    if suffix != ".flv" and video_codec in ("libx264", "mpeg4"):
        scene.shape = rng.choice([Fraction(1), Fraction(2), Fraction(4, 3), Fraction(1, 2)])
    times = [i / 25 for i in range(rng.choice([30, 50]))]
    if suffix in (".avi", ".mpg"):  # one frame after the other, from the start
        cut_short = 0.7 if suffix == ".avi" and rng.random() < 0.5 else 1.0
        return replace(scene, times=times, heard=(0.0, (times[-1] + 0.04) * cut_short))
    late = rng.choice([0.0, 0.32, 1.0])
    late_sound = rng.choice([0.0, 0.3, 1.0]) if late == 0 else 0.0
    if video_codec not in ("mpeg4", "mpeg2video") and rng.random() < 0.5:
        at, pause = rng.randrange(10, 20), rng.choice([0.24, 1.0, 2.0])
        times = times[:at] + [time + pause for time in times[at:]]
    scene.times = [round(late + time, 3) for time in times]
    if suffix in (".mp4", ".mov", ".mkv") and video_codec == "libx264" and rng.random() < 0.5:
        scene.held = rng.choice([0.5, 2.0])
    end = scene.times[-1] + scene.held
    scene.heard = (late_sound, max(late_sound + 1.0, end + rng.choice([0.0, -0.4, 0.5])))
    hole = (late_sound + 0.4, late_sound + 0.4 + rng.choice([0.4, 1.0]))
    if audio_codec == "aac" and rng.random() < 0.5 and hole[1] < scene.heard[1] - 0.3:
        scene.hole = hole
    if suffix in (".ts", ".mkv"):
        scene.offset = rng.choice([0.0, 7.0])
    return scene


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w, 3]: the number in bars above, and below white at the left."""
    width, height = size
    bars = np.repeat([20 + 215 * (number >> bit & 1) for bit in range(8)], width // 8)
    rows = [bars] * (height // 2) + [np.where(np.arange(width) < width // 4, 235, 20)] * (height - height // 2)
    return np.array(rows, np.uint8)[..., None].repeat(3, 2)


def read_picture(image: np.ndarray) -> int | None:
    """The number that a frame of a scene shows; None where it is not upright."""
    height, width = image.shape[:2]
    below = image[height * 5 // 8 :].mean(axis=(0, 2))
    upright = below[: width // 5].mean() > 180 and below[width // 3 :].max() < 110
    above = image[: height * 3 // 8]
    return read_number(above[:, : width // 8 * 8]) if upright else None


def write_scene(path: Path, scene: Scene) -> Path:
    """The scene as a file."""
    shown, undo = scene.size, TURNS[scene.matrix][1]
    images = [undo(picture(i, shown)) for i in range(len(scene.times))]
    height, width = images[0].shape[:2]
    width = round(width / scene.shape)
    with av.open(str(path), "w") as container:
        constant = bool(np.ptp(np.diff(scene.times)) < 1e-6) if len(scene.times) > 1 else True
        rate = Fraction(1 / float(np.median(np.diff(scene.times)))).limit_denominator(1001)
        video = container.add_stream(scene.video_codec, rate=rate)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.gop_size, video.max_b_frames = scene.gop, scene.bframes
        video.codec_context.thread_count = 1
        clock = 1 / rate if constant and scene.suffix in (".avi", ".mpg") else CLOCK
        if scene.video_codec not in ("mpeg4", "mpeg2video"):
            video.codec_context.time_base = clock
        else:
            video.bit_rate = 4_000_000
        if scene.video_codec == "libx264":
            video.options = {"preset": "ultrafast", "bf": str(scene.bframes), "sc_threshold": "0", "crf": "12"}
        elif scene.video_codec.startswith("libvpx"):
            video.options = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"}
            video.bit_rate = 2_000_000
        if scene.shape != 1:
            video.codec_context.sample_aspect_ratio = scene.shape
        if scene.matrix != IDENTITY and scene.suffix == ".mkv":
            a, b, c, d = (x << 16 for x in scene.matrix)
            video.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        audio = container.add_stream(scene.audio_codec, rate=scene.rate, layout="mono") if scene.audio_codec else None
        packets = []
        for time, image in zip(scene.times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
            frame = frame.reformat(width, height, "yuv420p")
            frame.pts, frame.time_base = round((time + scene.offset) / clock), clock
            packets += video.encode(frame)
        packets += video.encode(None)
        packets[-1].duration = round(scene.held / packets[-1].time_base)
        if audio is not None:
            packets += _sound(audio, scene)
        packets.sort(key=lambda p: (p.dts if p.dts is not None else p.pts) * p.time_base)
        container.mux(packets)
    if scene.matrix != IDENTITY and scene.suffix in (".mp4", ".mov"):
        set_matrix(path, *scene.matrix)
    return path


def _sound(audio: object, scene: Scene) -> list:
    """Packets of a tone, without those of the hole."""
    rate, packets = scene.rate, []
    count = round((scene.heard[1] - scene.heard[0]) * rate)
    t = scene.heard[0] + np.arange(count) / rate
    wave = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    wave[(t >= scene.hole[0]) & (t < scene.hole[1])] = 0
    start = round((scene.heard[0] + scene.offset) * rate)
    for first in range(0, count, 960):
        part = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, first : first + 960]), "fltp", "mono")
        part.sample_rate, part.pts, part.time_base = rate, start + first, Fraction(1, rate)
        packets += audio.encode(part)  # type: ignore[attr-defined]
    packets += audio.encode(None)  # type: ignore[attr-defined]
    inside = (scene.hole[0] + 0.06 + scene.offset, scene.hole[1] - 0.06 + scene.offset)
    return [p for p in packets if not inside[0] < float(p.pts * p.time_base) < inside[1]]


def set_matrix(path: Path, a: int, b: int, c: int, d: int, one: int = 1 << 16) -> Path:
    """Give the video track of an MP4 file a display matrix."""
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + matrix + data[at + 36 :])
    return path


def write_hidden_frames(folder: Path) -> Path:
    """A VP8 file of 50 frames, of which every 25th from frame 12 on is never shown: others only refer to it."""
    source, path = write_scene(folder / "a.webm", Scene(".webm", "libvpx", None, gop=250)), folder / "hidden.webm"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(packet for packet in old.demux() if packet.size):
            data = bytearray(bytes(packet))
            if i % 25 == 12:
                data[0] &= ~0x10  # "show_frame" (RFC 6386, 9.1)
            hidden = av.Packet(bytes(data))
            hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
            hidden.is_keyframe, hidden.stream = packet.is_keyframe, stream
            new.mux(hidden)
    return path

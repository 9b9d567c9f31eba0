"""When frames are shown that have no presentation time: AVI says in what order it holds them, and at what rate."""

from typing import Any

BY_THE_HEADER = frozenset(("mpeg4", "mpeg1video", "mpeg2video", "h263", "flv1", "wmv1", "wmv2", "wmv3", "vc1"))
"""Codecs whose decoder holds one frame back where there are B-frames, and FFmpeg finds their order by their headers."""


class Slots:
    """The decoding times of an AVI's frames are slots of one frame each, in ascending order: the first frame shown
    takes the first, the second the second. FFmpeg's own guess of presentation times is late by as many frames as the
    decoder holds back, and by one where it does not know the order.

    A frame comes out of the decoder once `held` further packets are in, so that its slot is that of the packet as many
    before the one that brought it out. How many a decoder of H.264 holds is seen at its first frame.
    """

    def __init__(self, codec: Any):
        self.codec = codec
        self._by_header = codec.name in BY_THE_HEADER or codec.name.startswith("msmpeg4")
        self.flush()

    def flush(self) -> None:
        """The decoder holds nothing any more."""
        self._reorders = bool(self.codec.has_b_frames)
        self._sent: list[int] = []
        self._held: int | None = int(self._reorders) if self.steady else None
        self._drained = 0

    @property
    def steady(self) -> bool:
        """Is it known how many packets the decoder holds, whatever it leaves out?"""
        return self._by_header or not self._reorders

    def packet(self, packet: Any) -> int | None:
        """When a packet's frame is shown (stream's ticks), as far as can be known before it is decoded."""
        if self._reorders and self._by_header and packet.pts is not None:
            return packet.pts - 1
        return packet.dts

    def place(self, packet: Any | None, frames: list[Any]) -> None:
        """Give frames that a packet brought out of the decoder, or with None the end of the file, their times."""
        if packet is not None and packet.dts is not None:
            self._sent.append(packet.dts)
        if not self._sent:
            return
        if self._held is None and frames:
            self._held = len(self._sent) - (packet is not None)
        for frame in frames:
            self._drained += packet is None
            at = len(self._sent) - 1 + self._drained - (self._held or 0)
            frame.pts = self._sent[min(max(0, at), len(self._sent) - 1)]

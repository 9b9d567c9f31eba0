"""Presentation times of frames in AVI files, which store only the frames' order and rate."""

from typing import Any

BY_THE_HEADER = frozenset(("mpeg4", "mpeg1video", "mpeg2video", "h263", "flv1", "wmv1", "wmv2", "wmv3", "vc1"))
"""Codecs whose decoder holds one frame back if there are B-frames, and whose order FFmpeg finds from their headers."""


class Slots:
    """Assigns presentation times to the frames of an AVI file.

    The decoding times of the packets, in ascending order, are slots: the first shown frame takes the first slot, the
    second frame the second slot. FFmpeg's own guess is late by the number of frames that the decoder holds back, or by
    one if it does not know the order.

    A frame leaves the decoder once `held` further packets are in. Its slot is therefore that of the packet `held`
    packets before the last one. For H.264, `held` is known only at the first frame.
    """

    def __init__(self, codec: Any):
        self.codec = codec
        self._by_header = codec.name in BY_THE_HEADER or codec.name.startswith("msmpeg4")
        self.flush()

    def flush(self) -> None:
        """Start again after a flush of the decoder."""
        self._reorders = bool(self.codec.has_b_frames)
        self._sent: list[int] = []
        self._held: int | None = int(self._reorders) if self.steady else None
        self._drained = 0

    @property
    def steady(self) -> bool:
        """Whether the number of packets in the decoder is known even if it skips frames."""
        return self._by_header or not self._reorders

    def packet(self, packet: Any) -> int | None:
        """Presentation time of a packet's frame (ticks of the stream), as far as it is known before decoding."""
        if self._reorders and self._by_header and packet.pts is not None:
            return packet.pts - 1
        return packet.dts

    def place(self, packet: Any | None, frames: list[Any]) -> None:
        """Set the times of frames that a packet, or, for None, the end of the file, released from the decoder."""
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

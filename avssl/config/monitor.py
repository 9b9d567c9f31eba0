"""The options `monitor.*`: held-out videos that show during a run whether its features collapse."""

from dataclasses import dataclass

from .option import option


@dataclass
class MonitorConfig:
    """monitor.*"""

    times: int = option(
        12,
        "how often in a run the features of held-out videos are measured (rank, deviation, nearest neighbours), more "
        "often at its beginning; 0: never",
        minimum=0,
        maximum=1000,
    )
    videos: int | None = option(
        None,
        "held-out videos to measure; none: up to 512, and fewer in a short run, so that all of it takes less than "
        "about 3 % of the run's time",
        "videos",
        minimum=8,
        maximum=100_000,
    )

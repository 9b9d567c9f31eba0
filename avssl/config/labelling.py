"""The options `labelling.*`: self-labelling."""

from dataclasses import dataclass

from ..core.errors import UserError
from .model import MODALITIES
from .option import option, shown

MAX_WEIGHT = 1000.0
"""Largest allowed sum of `modality_weights`."""


@dataclass
class LabellingConfig:
    clusters: int = option(
        10, "number of clusters, K; more clusters separate more, and some may stay empty", minimum=1, maximum=1_000_000
    )
    heads: int = option(
        1, "number of heads, H: independent labellings that share the encoders; SeLaVi uses 10", minimum=1, maximum=1000
    )
    sharing: str = option(
        "shared",
        "shared: one head for both modalities; per_modality: a head for each; concat: one head on the concatenated "
        "features, which cannot label from one modality alone",
        choices="shared per_modality concat",
    )
    align: bool = option(
        True,
        "before the first labelling pass, permute the clusters of the audio heads to match those of the video heads; "
        "for sharing=per_modality",
    )
    groups: int = option(
        1,
        "number of groups that the heads are split into; each group is labelled from its own augmented pass over the "
        "data",
        minimum=1,
        maximum=1000,
    )
    modalities: list[str] = option(
        ["video", "audio"],
        "modalities that determine the labels and are trained on them; a single one is SeLa",
        choices=MODALITIES,
        unique=True,
    )
    modality_weights: list[str] = option(
        ["equal"],
        "influence of each modality on the joint labels. equal: the same; auto: by its reliability, estimated without "
        "classes at each labelling pass; or numbers such as video:1.5,audio:0.5, which are scaled to a mean of 1",
        pattern=r"equal|auto|(video|audio):(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?",
    )
    method: str = option(
        "transport",
        "transport: optimal transport, as in SeLaVi; kmeans: DeepCluster; xdc: each modality is trained on the "
        "k-means clusters of the other",
        choices="transport kmeans xdc",
    )  # fmt: skip
    mode: str = option(
        "offline",
        "offline: label the whole data set, after a pass over it; bank: the same, from features that training steps "
        "stored; batch: label each batch together with a queue of past ones",
        choices="offline bank batch",
    )
    queue: int = option(
        512, "past videos that are labelled with each batch, for mode=batch", "videos", minimum=0, maximum=1_000_000
    )
    memory: str = option(
        "full",
        "full: keep the N x K log probabilities of a head while it is solved; stream: recompute them in each "
        "iteration, for data sets that do not fit in memory",
        choices="full stream",
    )  # fmt: skip
    start: float = option(
        0.0,
        "fraction of the run's steps before labelling starts, for task=both; until then only contrast is trained",
        minimum=0,
        maximum=0.99,
    )
    first: str = option(
        "heads",
        "source of the first labels. heads: the untrained heads, so chance; kmeans: k-means of the features; "
        "prototypes: k-means with five times as many clusters, merged by Ward's method",
        choices="heads kmeans prototypes",
    )
    first_from: str = option(
        "features",
        "what k-means clusters for the first labels: features, or the embeddings that contrast compares",
        choices="features embeddings",
    )
    soft: float = option(
        0.0,
        "fraction of the labelling steps whose targets are soft: a video's row of the transport plan, a probability "
        "of each cluster, in place of its label",
        minimum=0,
        maximum=1,
    )
    stop_gradient: bool = option(
        False, "train only the heads on the labels: the labelling loss does not change the encoders"
    )
    passes: int = option(100, "number of labelling passes in a run, S", minimum=1, maximum=100_000)
    exponent: float = option(
        1.5, "labelling pass i of S happens at step T (i / (S - 1)) ** exponent", minimum=0, maximum=100
    )
    released: list[str] = option(
        [],
        "follow SeLaVi's released code, not its paper, in these points. shuffle_groups: each labelling pass draws the "
        "groups of heads again; normalise_logits: the training loss scales logits to unit length; no_last_pass: no "
        "labelling pass follows the last step",
        choices="shuffle_groups normalise_logits no_last_pass",
        unique=True,
    )
    warmup_batches: int = option(
        20,
        "batches that update the batch-norm statistics before the first labelling pass; at most one pass over the data",
        "batches",
        minimum=0,
        maximum=1_000_000,
    )
    lam: float = option(
        20.0,
        "lambda, the sharpness of the transport plan; the solver starts from exp(lambda / 2 * log p)",
        minimum=0.001,
        maximum=10_000,
    )
    lam_start: float | None = option(
        None,
        "lambda of the first labelling pass, which grows by a constant factor per pass to labelling.lam at the last; "
        "none: labelling.lam throughout",
        minimum=0.001,
        maximum=10_000,
    )
    marginal: str = option(
        "uniform",
        "distribution of the cluster sizes; at each pass the largest cluster gets the largest size, and so on",
        choices="uniform gaussian zipf exponential given empirical",
    )
    marginal_parameter: float | None = option(
        None,
        "gaussian: standard deviation of the sizes over their mean (0.1); zipf: s in r_k ~ k ** -s (1); exponential: "
        "tau in r_k ~ exp(-k / tau) (a third of the clusters); empirical: smallest size over the mean (0.1); none: "
        "the value in parentheses",
        minimum=0,
        maximum=1_000_000,
    )
    sizes: list[str] = option(
        [],
        "for marginal=given: a size for each cluster, in any order, as counts or fractions; or one file with them: "
        "text or .csv with a number per line, or a .npy vector",
    )
    tolerance: float = option(
        0.1,
        "the solver stops when sum_n |beta_n / beta_n_new - 1| is certainly below this",
        minimum=0,
        maximum=1_000_000,
    )
    max_iterations: int = option(
        500, "stop the solver after this many iterations over the data", minimum=1, maximum=1_000_000
    )

    @property
    def weighs_by_itself(self) -> bool:
        """Whether each labelling pass estimates the weights of the modalities."""
        return self.modality_weights == ["auto"]

    def given_weights(self) -> dict[str, float]:
        """The initial weight of each modality, scaled to a mean of 1; empty if all weights are equal.

        Raises:
            UserError: `modality_weights` does not give each modality one number, or they sum to 0 or to more than
                1,000.
        """
        words, names = self.modality_weights, [name for name in MODALITIES.split() if name in self.modalities]
        if words == ["equal"]:
            return {}
        if words == ["auto"]:
            return dict.fromkeys(names, 1.0)
        numbers = {name: float(number) for name, _, number in (word.partition(":") for word in words) if number}
        total = sum(numbers.values())
        if len(numbers) < len(words) or numbers.keys() != set(names) or not 0 < total <= MAX_WEIGHT:
            form = ",".join(f"{name}:1" for name in names)
            raise UserError(
                f"labelling.modality_weights=[{shown(','.join(words))}] gives no weight to each of "
                f"{' and '.join(names)}: write equal, auto, or numbers such as [{form}], not "
                f"all 0 and at most {MAX_WEIGHT:g} together"
            )
        return {name: len(names) * numbers[name] / total for name in names}

"""The options of self-labelling."""

from dataclasses import dataclass

from ..core.errors import UserError
from .model import MODALITIES
from .option import option, shown

MAX_WEIGHT = 1000.0
"""Largest sum of the weights of the modalities, as given."""


@dataclass
class LabellingConfig:
    clusters: int = option(10, "number of clusters, K", minimum=1, maximum=1_000_000)
    heads: int = option(
        1, "number of heads, H: independent labellings that share the encoders", minimum=1, maximum=1000
    )
    sharing: str = option(
        "shared",
        "shared: one head for both modalities; per_modality: a head for each; concat: one head on both features "
        "concatenated, which cannot label from one modality alone",
        choices="shared per_modality concat",
    )
    align: bool = option(
        True,
        "for per_modality: before the first labelling pass, permute the audio heads' clusters to match the video's",
    )
    groups: int = option(
        1,
        "number of groups that the heads are split into; each is labelled from an augmented pass of its own",
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
        "how much each modality counts in the joint labels. equal: alike; auto: by how reliable it is, found without "
        "labels at each labelling pass; or numbers such as [video:1.5,audio:0.5], which are scaled to a mean of 1",
        pattern=r"equal|auto|(video|audio):(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?",
    )
    method: str = option(
        "transport",
        "transport: optimal transport, as in SeLaVi; kmeans: DeepCluster; xdc: each modality learns the other's "
        "k-means clusters",
        choices="transport kmeans xdc",
    )  # fmt: skip
    mode: str = option(
        "offline",
        "offline: solve over the whole data set, from passes over it; bank: the same, from features that training "
        "steps stored; batch: solve over each batch and a queue of past ones",
        choices="offline bank batch",
    )
    queue: int = option(
        512, "past videos that are solved with each batch, for mode=batch", "videos", minimum=0, maximum=1_000_000
    )
    memory: str = option(
        "full",
        "full: keep a head's log probabilities, N x K, while it is solved; stream: recompute them in each iteration",
        choices="full stream",
    )  # fmt: skip
    start: float = option(
        0.0,
        "share of the run's steps before labelling starts, for task=both; until then contrast alone is trained",
        minimum=0,
        maximum=0.99,
    )
    first: str = option(
        "heads",
        "where the first labels come from. heads: from untrained heads, by chance; kmeans: from k-means of the "
        "features; prototypes: from k-means with five times the clusters, which are then joined by Ward's method",
        choices="heads kmeans prototypes",
    )
    first_from: str = option(
        "features",
        "what the first labels' k-means clusters: features, or the embeddings that contrast compares",
        choices="features embeddings",
    )
    soft: float = option(
        0.0,
        "share of the labelling steps in which a video's target is its row of the transport plan, a probability of "
        "each cluster, and not its label",
        minimum=0,
        maximum=1,
    )
    stop_gradient: bool = option(False, "train the heads alone on the labels: the labelling loss moves no encoder")
    passes: int = option(100, "number of labelling passes in a run, S", minimum=1, maximum=100_000)
    exponent: float = option(
        1.5, "labelling pass i of S happens at step T (i / (S - 1)) ** exponent", minimum=0, maximum=100
    )
    released: list[str] = option(
        [],
        "follow SeLaVi's released code in these. shuffle_groups: each labelling pass draws the groups of heads again; "
        "normalise_logits: the training loss scales logits to unit length; no_last_pass: there is no labelling pass "
        "after the last step",
        choices="shuffle_groups normalise_logits no_last_pass",
        unique=True,
    )
    warmup_batches: int = option(
        20,
        "batches that set the batch-norm statistics before the first labelling pass; at most one pass over the data",
        "batches",
        minimum=0,
        maximum=1_000_000,
    )
    lam: float = option(
        20.0,
        "lambda, the sharpness of the transport plan, which starts from exp(lambda / 2 * log p)",
        minimum=0.001,
        maximum=10_000,
    )
    lam_start: float | None = option(
        None,
        "lambda of the first labelling pass; it grows from pass to pass by a constant factor, to labelling.lam at the "
        "last; none: labelling.lam from the beginning",
        minimum=0.001,
        maximum=10_000,
    )
    marginal: str = option(
        "uniform",
        "distribution of the cluster sizes; each pass gives the largest size to the largest cluster, and so on",
        choices="uniform gaussian zipf exponential given empirical",
    )
    marginal_parameter: float | None = option(
        None,
        "gaussian: standard deviation of the sizes over their mean (0.1); zipf: s in r_k ~ k ** -s (1); exponential: "
        "tau in r_k ~ exp(-k / tau) (a third of the clusters); empirical: smallest size over the mean (0.1); none: the "
        "value in parentheses",
        minimum=0,
        maximum=1_000_000,
    )
    sizes: list[str] = option(
        [],
        "for marginal=given: a size for each cluster, in any order, as counts or fractions; or one file of them: text "
        "or .csv with a number per line, or a .npy vector",
    )
    weight: float = option(1.0, "weight of the labelling loss, for task=both", minimum=0, maximum=1000)
    tolerance: float = option(
        0.1,
        "stop the solver when sum_n |beta_n / beta_n_new - 1| is certainly below this",
        minimum=0,
        maximum=1_000_000,
    )
    max_iterations: int = option(
        500, "stop the solver after this many iterations over the data", minimum=1, maximum=1_000_000
    )

    @property
    def weighs_by_itself(self) -> bool:
        """Are the weights of the modalities found at each labelling pass?"""
        return self.modality_weights == ["auto"]

    def given_weights(self) -> dict[str, float]:
        """The weight of each modality to begin with, with a mean of 1; empty where they count alike.

        Raises:
            UserError: `modality_weights` does not give one number of at most 1,000 to each modality.
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

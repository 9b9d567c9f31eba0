"""Self-labelling."""

from dataclasses import dataclass

from .option import option


@dataclass
class LabellingConfig:
    clusters: int = option(10, "clusters, K", minimum=1, maximum=1_000_000)
    heads: int = option(1, "heads, H: independent labellings that share the encoders", minimum=1, maximum=1000)
    sharing: str = option(
        "shared",
        "shared: one head serves both modalities; per_modality: one each; concat: one over both side by side, which "
        "labels no modality alone",
        choices="shared per_modality concat",
    )
    align: bool = option(True, "for per_modality: permute the sound heads to agree before the first labelling")
    groups: int = option(
        1, "heads are split into as many groups, each labelled from its own augmented pass", minimum=1, maximum=1000
    )
    shuffle_groups: bool = option(
        False, "draw again at each labelling which heads form a group, as SeLaVi's released code does"
    )
    modalities: list[str] = option(
        ["video", "audio"],
        "what labels are found from and trained: one of them is SeLa",
        choices="video audio",
        unique=True,
    )
    method: str = option(
        "transport", "transport: SeLaVi; kmeans: DeepCluster; xdc: each modality learns the other's k-means clusters",
        choices="transport kmeans xdc",
    )  # fmt: skip
    mode: str = option(
        "offline",
        "offline: solve over the whole data set, from passes over it; bank: from features remembered of training; "
        "batch: solve over each batch and a queue of past ones",
        choices="offline bank batch",
    )
    queue: int = option(
        512, "past videos solved with each batch, for mode=batch", "videos", minimum=0, maximum=1_000_000
    )
    memory: str = option(
        "full", "full: keeps a head's evidence, N x K, while it is solved; stream: computes it anew in every pass",
        choices="full stream",
    )  # fmt: skip
    solves: int = option(100, "labellings in the whole training", minimum=1, maximum=100_000)
    exponent: float = option(
        1.5, "labelling i of S happens at step T (i / (S - 1)) ** exponent", minimum=0, maximum=100
    )
    label_at_end: bool = option(
        True, "label once more after the last step; false leaves that labelling out, as SeLaVi's released code does"
    )
    normalise_logits: bool = option(
        False, "the training loss sees logits of unit length, as in SeLaVi's released code; labels are found without"
    )
    warmup_batches: int = option(
        20,
        "batches that set the batch-norm statistics before the first labelling; one pass over the data at most",
        "batches",
        minimum=0,
        maximum=1_000_000,
    )
    lam: float = option(
        20.0,
        "lambda: sharpness of the transport problem; the plan is exp(lambda / 2 * log p)",
        minimum=0.001,
        maximum=10_000,
    )
    marginal: str = option(
        "uniform",
        "the cluster sizes asked for; the solver pairs the largest with the largest cluster",
        choices="uniform gaussian zipf exponential given empirical",
    )
    sigma: float = option(
        0.1, "standard deviation of the sizes over their mean, for marginal=gaussian", minimum=0, maximum=10
    )
    zipf_exponent: float = option(1.0, "s in r_k ~ k ** -s, for marginal=zipf", minimum=0, maximum=10)
    exponential_scale: float = option(
        0.0,
        "tau in r_k ~ exp(-k / tau), for marginal=exponential; 0 is a third of the clusters",
        "clusters",
        minimum=0,
        maximum=1_000_000,
    )
    sizes: list[float] = option(
        [],
        "one size a cluster, counts or masses in any order, for marginal=given",
        minimum=0,
        maximum=1_000_000_000_000_000,
    )
    sizes_file: str | None = option(
        None, "file of the same: one number a line (text or .csv), or a .npy vector, for marginal=given", path="file"
    )
    empirical_floor: float = option(
        0.1,
        "least size over the mean, at most 1, for marginal=empirical: the sizes that the model finds",
        minimum=0,
        maximum=1,
    )
    weight: float = option(1.0, "weight of the labelling's loss, for task=both", minimum=0, maximum=1000)
    tolerance: float = option(
        0.1, "stop when sum_n |beta_n / beta_n_new - 1| is sure to be below this", minimum=0, maximum=1_000_000
    )
    max_iterations: int = option(
        500, "stop the solver after this many passes over the data", minimum=1, maximum=1_000_000
    )

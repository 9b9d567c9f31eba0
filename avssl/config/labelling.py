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
    align: bool = option(True, "for per_modality: permute the audio heads to agree before the first labelling pass")
    groups: int = option(
        1, "heads are split into as many groups, each labelled from its own augmented pass", minimum=1, maximum=1000
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
    passes: int = option(100, "labelling passes in the whole run", minimum=1, maximum=100_000)
    exponent: float = option(
        1.5, "labelling pass i of S happens at step T (i / (S - 1)) ** exponent", minimum=0, maximum=100
    )
    released: list[str] = option(
        [],
        "what is done as SeLaVi's released code does it. shuffle_groups: each labelling pass draws again which heads "
        "form a group; normalise_logits: the training loss sees logits of unit length; no_last_pass: none after the "
        "last step",
        choices="shuffle_groups normalise_logits no_last_pass",
        unique=True,
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
    marginal_parameter: float | None = option(
        None,
        "gaussian: standard deviation of the sizes over their mean (0.1); zipf: s in r_k ~ k ** -s (1); exponential: "
        "tau in r_k ~ exp(-k / tau) (a third of the clusters); empirical: smallest size over the mean (0.1)",
        minimum=0,
        maximum=1_000_000,
    )
    sizes: list[str] = option(
        [],
        "for marginal=given: one size a cluster, counts or masses in any order; or one file of them, one number a line "
        "(text or .csv), or a .npy vector",
    )
    weight: float = option(1.0, "weight of the labelling's loss, for task=both", minimum=0, maximum=1000)
    tolerance: float = option(
        0.1, "stop when sum_n |beta_n / beta_n_new - 1| is sure to be below this", minimum=0, maximum=1_000_000
    )
    max_iterations: int = option(
        500, "stop the solver after this many passes over the data", minimum=1, maximum=1_000_000
    )

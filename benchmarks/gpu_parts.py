"""The parts of `python -m benchmarks gpu`. Each returns the records of its table and a sentence about them."""

import importlib.util
import io
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F

from avssl.clips.dataset import Batch, ClipDataset
from avssl.clips.loader import load, train_requests
from avssl.config import DataConfig, IndexConfig, PlanConfig, TrainConfig
from avssl.config.compose import compose_config
from avssl.core.cores import available_cores
from avssl.core.device import autocast, decoding_workers, prepare_device, share_cores
from avssl.core.errors import UserError
from avssl.models.build import modalities_of
from avssl.objectives.labelling import LABEL_BATCH
from avssl.plan.command import make_plan
from avssl.plan.step import Bench, random_batch
from avssl.plan.timing import seconds, synchronise
from avssl.selflabel.marginals import uniform
from avssl.selflabel.sinkhorn import sinkhorn
from avssl.videos.index import index_videos, read_index
from benchmarks.contrast import two_view_info_nce
from benchmarks.gpu import Found, Record
from benchmarks.loader_files import make_files
from benchmarks.options import BenchGpuConfig

Records = tuple[list[Record], str]

OBJECTIVES = {
    "labels (SeLaVi)": ["task=selavi"],
    "labels, frozen encoders": ["task=selavi", "labelling.sharing=shared", "model.freeze=[video,audio]"],
    "contrast (GDT)": ["task=gdt", "contrast=preset_1"],
    "both": ["task=both", "contrast=preset_1", "labelling.sharing=shared"],
}
"""The words of the runs whose steps are measured."""

DECODED = ("labels (SeLaVi)", "both")
"""The runs whose steps are also measured with decoding, and planned."""

WARM_STEPS = 3
"""Steps before any are counted: cuDNN chooses its algorithms, and the decoding processes start."""


@dataclass
class Job:
    """What a part is given: the options, a folder that all parts share, and what those before it found."""

    config: BenchGpuConfig
    folder: Path
    before: dict[str, Found]

    def device(self) -> torch.device:
        device = prepare_device(self.config.device, fixed_shapes=True)
        share_cores(device, 0, 1 if self.config.quick else 0)
        return device

    def words(self, objective: str) -> list[str]:
        sizes = ["model=tiny", "clip=tiny", "optim.batch=4"] if self.config.quick else []
        labels = ["labelling.clusters=4", "labelling.heads=2"] if self.config.quick else []
        batch = [f"optim.batch={self.config.batch}"] if self.config.batch else []
        return ["data.root=x", *sizes, *labels, *batch, "seed=0", *OBJECTIVES[objective]]

    def bench(self, objective: str, device: torch.device) -> Bench:
        return Bench(compose_config("train", TrainConfig, self.words(objective)), device)

    @property
    def budget(self) -> float:
        """Time for a measurement, s."""
        return 0.05 if self.config.quick else 4.0

    def data(self) -> DataConfig:
        """The videos that the part `files` made. Raises UserError if there are none."""
        if not (self.folder / "index").is_dir():
            raise UserError("there are no files: the part `files` was left out, or failed")
        return DataConfig(root=str(self.folder / "videos"), name="gpu", index=str(self.folder / "index"))


def machine(job: Job) -> Records:
    """The GPU, and the versions that its figures depend on."""
    device = job.device()
    about = {
        "device": platform.processor() or platform.machine(), "torch": torch.__version__,
        "cores": available_cores(), "system": platform.platform(),
    }  # fmt: skip
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "device": properties.name, "memory": f"{properties.total_memory / 1e9:.0f} GB",
            "compute capability": f"{properties.major}.{properties.minor}", "driver": _driver(),
            "CUDA": torch.version.cuda or torch.version.hip, "cuDNN": torch.backends.cudnn.version(),
            "GPUs": torch.cuda.device_count(),
        }  # fmt: skip
    return [{"what": key, "value": str(value)} for key, value in about.items()], ""


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.split()
    return said[0] if said else "unknown"


def steps(job: Job) -> Records:
    """A step of each objective beside the same model, written by hand, on the same resident batch."""
    device, records = job.device(), []
    for name in OBJECTIVES:
        bench = job.bench(name, device)
        batch = random_batch(bench.config, bench.plan, bench.config.optim.batch).to(device)
        ours = seconds(partial(_our_step, bench, batch), device, job.budget, 100)
        bare = seconds(_bare_step(bench, batch), device, job.budget, 100)
        transform = seconds(partial(bench.loss.clips, batch), device, job.budget / 4, 100)
        records.append(
            {
                "objective": name, "videos": bench.config.optim.batch, "avssl, ms": 1e3 * ours,
                "of that augmentation, ms": 1e3 * transform, "bare loop, ms": 1e3 * bare, "ratio": ours / bare,
                "ratio without augmentation": (ours - transform) / bare,
            }
        )  # fmt: skip
    about = (
        "The bare loop has the same encoders, heads, precision and optimiser, inputs that are augmented already, "
        "labels that are given, and InfoNCE between two views. Medians."
    )
    return records, about


def _our_step(bench: Bench, batch: Batch) -> None:
    bench.backward(batch)
    bench.optimizer.step()


def _bare_step(bench: Bench, batch: Batch) -> Any:
    """A step of the same model as one would write it by hand."""
    model, config, device = bench.model, bench.config, bench.device
    model.train()
    clips = bench.loss.clips(batch).main
    turns = 1 if bench.loss.composition is None else bench.loss.composition.turns
    heads, clusters = model.cluster_head_count, model.clusters
    rows = len(next(iter(clips.values()))) // turns
    labels = torch.randint(max(1, clusters), (max(1, heads) * rows,), device=device)

    def step() -> None:
        bench.optimizer.zero_grad(set_to_none=True)
        with autocast(device, config.precision):
            features = model.encode(clips)
            losses = []
            if heads:
                plain = {name: x[::turns] for name, x in features.items()}
                logits = model.cluster(plain).values()
                losses.append(sum(F.cross_entropy(z.float().flatten(0, 1), labels) for z in logits) / len(plain))
            if model.projections:
                z = torch.cat([model.embed(x, name).float() for name, x in features.items()])
                losses.append(two_view_info_nce(z))
        torch.stack([torch.as_tensor(loss) for loss in losses]).sum().backward()
        bench.optimizer.step()

    return step


def memory(job: Job) -> Records:
    """The peak of a step beside the estimate of `avssl plan` on machines without a GPU."""
    device, records = job.device(), []
    for name in OBJECTIVES:
        bench, small = job.bench(name, device), None
        size = bench.config.optim.batch
        small = random_batch(bench.config, bench.plan, min(2, size))
        bench.begin_part(0)
        estimate = bench._memory(small, size)
        record: Record = {"objective": name, "estimate, GB": estimate / 1e9}
        if device.type == "cuda":
            batch = random_batch(bench.config, bench.plan, size)
            torch.cuda.reset_peak_memory_stats(device)
            for _ in range(WARM_STEPS):
                _our_step(bench, batch)
            peak = torch.cuda.max_memory_allocated(device)
            record |= {"measured, GB": peak / 1e9, "measured / estimate": peak / estimate}
        records.append(record)
        del bench
    return records, "" if device.type == "cuda" else "The peak of memory is measured on a GPU only."


def profile(job: Job) -> Records:
    """The ten kernels that take the most time of a step with both objectives."""
    device, runs = job.device(), 2 if job.config.quick else 10
    bench = job.bench("both", device)
    batch = random_batch(bench.config, bench.plan, bench.config.optim.batch).to(device)
    for _ in range(WARM_STEPS):
        _our_step(bench, batch)
    cuda = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(runs):
            _our_step(bench, batch)
        synchronise(device)
    field = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, field))
    total = sum(getattr(event, field) for event in events) or 1.0
    records = [
        {
            "kernel": event.key[:90], "ms a step": getattr(event, field) / 1e3 / runs,
            "share": f"{getattr(event, field) / total:.0%}", "calls a step": event.count / runs,
        }
        for event in events[:10]
    ]  # fmt: skip
    return records, f"{total / 1e3 / runs:.3g} ms of {'GPU' if cuda else 'CPU'} time a step, both objectives."


@torch.no_grad()
def labelling(job: Job) -> Records:
    """The forward pass of a labelling pass, and a head's evidence."""
    device = job.device()
    bench = job.bench("labels (SeLaVi)", device)
    bench.model.eval()
    size = 4 if job.config.quick else LABEL_BATCH
    batch = random_batch(bench.config, None, size).to(device)

    def encode() -> None:
        clips = bench.transform(batch, modalities_of(bench.config))
        with autocast(device, bench.config.precision):
            features = bench.model.encode(clips)
        for x in features.values():
            x.float().cpu()

    each, evidence = seconds(encode, device, job.budget, 100) / size, bench.evidence_seconds()
    heads, clusters = bench.config.labelling.heads, bench.config.labelling.clusters
    encoded: Record = {"part": "encode a clip of each video", "videos/s": 1 / each, "a million videos, s": 1e6 * each}
    head: Record = {"part": f"log p, {heads} heads of {clusters} clusters", "videos/s": 1 / (heads * evidence),
                    "a million videos, s": 1e6 * heads * evidence}  # fmt: skip
    return [encoded, head], f"Batches of {size} resident clips; decoding is not counted."


def solver(job: Job) -> Records:
    """The solver on evidence that is on the device."""
    device, records = job.device(), []
    sizes = [(2000, 16), (2000, 40)] if job.config.quick else [(1_000_000, 400), (1_000_000, 4000)]
    small = _evidence(500, 8, device)
    sinkhorn(small, uniform(8).to(device))  # libraries are up before anything is timed
    for rows, clusters in sizes:
        record: Record = {"videos": rows, "clusters": clusters}
        records.append(record)
        try:
            log_p = _evidence(rows, clusters, device)
        except torch.OutOfMemoryError:
            record["seconds"] = "not enough memory"
            continue
        synchronise(device)
        began = perf_counter()
        solved = sinkhorn(log_p, uniform(clusters).to(device))
        synchronise(device)
        record |= {"seconds": perf_counter() - began, "passes": solved.iterations, "error": float(solved.error)}
        del log_p
    return records, "Evidence of two modalities, in memory, as of one head."


def _evidence(rows: int, clusters: int, device: torch.device, chunk: int = 65_536) -> torch.Tensor:
    """log p of two modalities, float32 [rows, clusters], made on the device: unit normal logits, plus 4 at the true
    cluster."""
    generator = torch.Generator(device).manual_seed(0)
    log_p = torch.empty(rows, clusters, device=device)
    for part in log_p.split(chunk):
        true = torch.randint(clusters, (len(part), 1), generator=generator, device=device)
        part.zero_()
        for _ in range(2):
            logits = torch.randn(part.shape, generator=generator, device=device)
            part += logits.scatter_add_(1, true, torch.full_like(true, 4, dtype=torch.float32)).log_softmax(1)
    return log_p


def files(job: Job) -> Records:
    """Files of 320 x 240 px with sound, and their index."""
    root = job.folder / "videos"
    root.mkdir()
    number, length = (2, 3.0) if job.config.quick else (6, 10.0)
    made = make_files(root, ["h264"], number, length, 0)["h264"]
    index_videos(IndexConfig(DataConfig(root=str(root), name="gpu", index=str(job.folder / "index")), workers=1))
    size = sum(path.stat().st_size for path in made) / len(made)
    return [{"files": number, "seconds each": length, "kbit/s": 8e-3 * size / length}], "H.264 and AAC."


def _batches(job: Job, config: TrainConfig, bench: Bench | None, device: torch.device, workers: int) -> Iterator[Batch]:
    data = job.data()
    composition = None if bench is None else bench.plan
    modalities = None if composition is not None else modalities_of(config)
    dataset = ClipDataset(read_index(data.index, "all"), data.root, config.clip, 0, composition, modalities)
    asked = (train_requests(len(dataset), config.optim.batch, 0, step) for step in count())
    return load(dataset, asked, workers, pin=device.type == "cuda")


def decode(job: Job) -> Records:
    """Clips per second by PyAV in processes, to the device, and by TorchCodec on the GPU; the copy of a batch."""
    device = job.device()
    workers = 1 if job.config.quick else decoding_workers(-1, device)
    config = compose_config("train", TrainConfig, job.words("labels (SeLaVi)"))
    batches = _batches(job, config, None, device, workers)
    batch = next(batches)
    done, began, least = 0, perf_counter(), 2 if job.config.quick else 20
    while done < least or perf_counter() - began < job.budget:
        batch = next(batches)
        batch.to(device)
        done += 1
    synchronise(device)
    rate = done * config.optim.batch / (perf_counter() - began)
    records: list[Record] = [{"way": f"pyav, {workers} processes, to the device", "clips/s": rate}]
    records += [_torchcodec(job, config, device)]
    if device.type == "cuda":
        size = sum(x.nbytes for x in batch.clips.values())
        for name, pinned in (("pinned", True), ("not pinned", False)):
            clips = [x.pin_memory() if pinned else x.clone() for x in batch.clips.values()]
            copy = seconds(partial(_copy, clips, device), device, 0.5, 50)
            records.append({"way": f"copy of a batch, {name}", "ms": 1e3 * copy, "GB/s": size / copy / 1e9})
    return (
        records,
        f"{config.clip.frames} frames of {config.clip.crop} px and {config.clip.audio_seconds:g} s of audio.",
    )


def _copy(clips: list[torch.Tensor], device: torch.device) -> None:
    for x in clips:
        x.to(device, non_blocking=True)


def _torchcodec(job: Job, config: TrainConfig, device: torch.device) -> Record:
    """Frames alone, without audio and scaling, by TorchCodec on the device."""
    name = f"torchcodec on {device.type}, frames alone"
    if importlib.util.find_spec("torchcodec") is None:
        return {"way": name, "clips/s": "not installed"}
    path = next(Path(job.data().root).glob("*.mp4"))
    try:
        from torchcodec.decoders import VideoDecoder

        numbers = list(range(10, 10 + config.clip.frames))

        def clip() -> None:
            VideoDecoder(str(path), device=str(device)).get_frames_at(numbers)

        return {"way": name, "clips/s": 1 / seconds(clip, device, job.budget / 4, 200)}
    except Exception as error:  # missing libraries and GPUs without a decoder raise all kinds of errors
        return {"way": name, "clips/s": " ".join(str(error).split())[:80]}


def waiting(job: Job) -> Records:
    """Steps with decoding: how long they take, and the share of it that they wait for a batch."""
    device, records = job.device(), []
    workers = 1 if job.config.quick else decoding_workers(-1, device)
    for name in DECODED:
        bench = job.bench(name, device)
        batches, waited, done = _batches(job, bench.config, bench, device, workers), 0.0, 0
        for _ in range(WARM_STEPS):
            _our_step(bench, next(batches))
        synchronise(device)
        began = perf_counter()
        while done < 2 or perf_counter() - began < 2 * job.budget:
            before = perf_counter()
            batch = next(batches)
            waited += perf_counter() - before
            _our_step(bench, batch)
            done += 1
        synchronise(device)
        whole = perf_counter() - began
        records.append(
            {
                "objective": name, "workers": workers, "ms a step": 1e3 * whole / done, "waiting": waited / whole,
                "videos/s": done * bench.config.optim.batch / whole,
            }
        )  # fmt: skip
        del batches
    return records, "Files of 320 x 240 px. Each step decodes its clips again."


def plan(job: Job) -> Records:
    """What `avssl plan` says of the steps that the part `waiting` measured."""
    job.device()
    data, records = job.data(), []
    measured = {record["objective"]: record for record in job.before.get("waiting", Found()).records}
    for name in DECODED:
        words = [*job.words(name)[1:], f"data.root={data.root}", f"data.index={data.index}", "videos=100000"]
        config = compose_config("plan", PlanConfig, [*words, f"device={job.config.device}"])
        with redirect_stdout(io.StringIO()):
            said = make_plan(config)
        record: Record = {"objective": name, "planned, ms a step": 1e3 * said.estimate.step.seconds}
        if name in measured:
            took = measured[name]["ms a step"]
            record |= {"measured, ms": took, "planned / measured": record["planned, ms a step"] / took}
        records.append(record | {"bound by": said.estimate.step.bound})
    return records, ""

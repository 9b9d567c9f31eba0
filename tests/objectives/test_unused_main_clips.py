"""Main clips that no objective uses are not encoded; where one does, the others see the same as ever."""

import pytest
import torch

from avssl.config import TrainConfig
from avssl.config.compose import compose_config
from avssl.objectives.build import encoded_main_clips, make_plan
from avssl.plan.step import Bench, random_batch

TINY = ["experiment=tiny", "workers=0", "threads=1", "precision=float32", "device=cpu", "data.root=x", "optim.batch=4"]
VIDEO, BOTH = ("video",), ("video", "audio")


def config_of(*words: str) -> TrainConfig:
    return compose_config("train", TrainConfig, [*TINY, *words])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["objective=rotation"], ()),
        (["objective=context"], ()),
        (["objective=pace"], ()),
        (["task=none", "loss.rotation=1"], ()),
        (["objective=rotation", "loss.context=1"], ()),
        (["objective=arrow"], BOTH),
        (["objective=order"], BOTH),
        (["objective=sync"], BOTH),
        (["objective=arrow", "contrast.modalities=[video]"], VIDEO),
        (["objective=rotation", "loss.arrow=1"], VIDEO),
        (["task=selavi", "loss.rotation=1"], BOTH),
        (["task=selavi", "labelling.modalities=[video]", "loss.rotation=1"], VIDEO),
        (["objective=simclr", "loss.rotation=1"], VIDEO),
        (["objective=jepa", "loss.context=1"], BOTH),
    ],
)
def test_which_main_clips_are_encoded(words, expected):
    assert encoded_main_clips(config_of(*words)) == expected


def seen(bench: Bench) -> list[tuple[int, ...]]:
    """The shapes of the batches that the encoders get in a step of four videos."""
    shapes: list[tuple[int, ...]] = []
    for encoder in bench.model.encoders.values():
        encoder.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    bench.backward(random_batch(bench.config, bench.plan, 4))
    return shapes


@pytest.mark.parametrize(
    ("words", "clips"), [(["objective=rotation"], 16), (["objective=context"], 8), (["objective=arrow"], 8)]
)
def test_a_step_encodes_what_the_line_says(words, clips):
    bench = Bench(config_of(*words, "contrast.modalities=[video]"), torch.device("cpu"))
    assert [shape[0] for shape in seen(bench)] == [clips]
    assert all(p.grad is not None for p in bench.model.encoders.parameters())


def test_running_statistics_are_of_the_clips_that_are_encoded():
    """A group of the main clips' shape moves them if there are no main clips; small clips never do."""
    bench = Bench(config_of("objective=rotation"), torch.device("cpu"))
    batch = random_batch(bench.config, bench.plan, 4)
    rotated = bench.loss.clips(batch).groups["rotation"]
    twin = Bench(bench.config, torch.device("cpu"))
    bench.backward(batch)
    twin.model.train()
    with torch.no_grad():
        twin.model.encode(rotated)
    ours, theirs = (dict(each.model.encoders.named_buffers()) for each in (bench, twin))
    assert ours
    assert all(torch.equal(x, theirs[name]) for name, x in ours.items())
    still = {name: x.clone() for name, x in ours.items()}
    main = bench.loss.clips(batch).main
    cut = {"video": main["video"][..., ::2, ::2].contiguous()}
    encodable = type(bench.loss.clips(batch))(main, {"small": cut})
    bench.loss.encode(encodable)
    assert all(torch.equal(x, still[name]) for name, x in bench.model.encoders.named_buffers())


def test_an_encoder_that_no_term_uses_stays_as_it_is():
    bench = Bench(config_of("task=none", "loss.rotation=1"), torch.device("cpu"))
    before = {name: x.clone() for name, x in bench.model.encoders["audio"].state_dict().items()}
    bench.backward(random_batch(bench.config, make_plan(bench.config), 4))
    bench.update()
    assert all(torch.equal(x, before[name]) for name, x in bench.model.encoders["audio"].state_dict().items())

"""A batch is one block of memory: its tensors are views, it goes between processes whole, and is copied once."""

import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch

from avssl.clips.augment import DRAWS, Draws
from avssl.clips.batch import ALIGNED, Batch, Failure
from avssl.clips.dataset import Item, collate

FAILED = Failure("a.mp4", "broken")


def items() -> list[Item]:
    rng = np.random.default_rng(0)

    def item(index: int) -> Item:
        clips = {
            "video": rng.integers(0, 256, (2, 3, 5, 5, 3), dtype=np.uint8),
            "audio": rng.standard_normal((2, 7), dtype=np.float32),
        }
        return Item(index, clips, rng.random((2, DRAWS)), [], {"crop": rng.random((2, 3)).astype(np.float32)})

    return [item(4), Item(1, None, None, [FAILED]), item(2)]


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    assert batch.draws is not None
    return {"index": batch.index, "draws": batch.draws.values, **batch.clips, **batch.values}


def test_a_batch_has_the_items_in_one_block():
    there = items()
    batch = collate(there)
    first, _, second = there
    assert batch.index.tolist() == [4, 2]
    assert batch.failures == [FAILED]
    for name, x in batch.clips.items():
        assert np.array_equal(x.numpy(), np.concatenate([first.clips[name], second.clips[name]]))
    assert np.array_equal(batch.values["crop"].numpy(), np.stack([first.values["crop"], second.values["crop"]]))
    expected = Draws.stack([*first.draws, *second.draws])
    assert torch.equal(batch.draws.values, expected.values)
    assert batch.block.untyped_storage().nbytes() >= sum(x.nbytes for x in tensors(batch).values())
    for x in tensors(batch).values():
        assert x.untyped_storage().data_ptr() == batch.block.untyped_storage().data_ptr()
        assert x.storage_offset() * x.element_size() % ALIGNED == 0


def test_draws_are_columns_by_name():
    drawn = np.random.default_rng(0).random((3, DRAWS))
    draws = Draws.stack([*drawn])
    assert torch.equal(draws.flip, torch.from_numpy(drawn[:, 0]).float())
    assert torch.equal(draws.brightness, torch.from_numpy(drawn[:, 1]).float() * 2 - 1)
    assert torch.equal(draws[1:].noise, draws.noise[1:])
    assert not hasattr(draws, "nothing")


def test_a_batch_travels_as_one_tensor():
    batch = collate(items())
    sent = ForkingPickler.dumps(batch)
    back = pickle.loads(sent)
    assert bytes(sent).count(b"rebuild_storage") == 1
    assert back.block is not None
    for x, y in zip(tensors(batch).values(), tensors(back).values(), strict=True):
        assert torch.equal(x, y)
    empty = pickle.loads(ForkingPickler.dumps(collate([Item(1, None, None, [FAILED])])))
    assert (len(empty.index), empty.clips, empty.draws, empty.failures) == (0, {}, None, [FAILED])


def test_a_changed_batch_is_not_the_block():
    batch = collate(items())
    silent = batch.with_clips(audio=torch.zeros_like(batch.clips["audio"]))
    assert silent.block is None
    back = pickle.loads(ForkingPickler.dumps(silent))
    assert not back.clips["audio"].any()
    assert torch.equal(back.clips["video"], batch.clips["video"])
    assert replace(batch, index=batch.index[:1]).block is None


def test_a_batch_is_copied_to_a_device_once_and_keeps_its_index_here():
    batch = collate(items())
    assert batch.to(torch.device("cpu")) is batch
    there = batch.to(torch.device("meta"))
    assert there.is_on(torch.device("meta"))
    assert there.to(torch.device("meta")) is there
    assert {x.device.type for name, x in tensors(there).items() if name != "index"} == {"meta"}
    assert {name: x.shape for name, x in tensors(there).items()} == {n: x.shape for n, x in tensors(batch).items()}
    assert there.index.tolist() == [4, 2]
    assert there.device_index.device.type == "meta"

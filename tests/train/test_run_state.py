"""How a run wraps and compiles its model; that the numbers stay is tested with two processes, and in tests/gpu."""

import pytest
import torch
from torch import nn

from avssl.models import MultiStream
from avssl.train.new_model import compile_encoders
from avssl.train.run_state import parallel_options


@pytest.mark.parametrize(
    ("unused", "accumulate", "static"), [(False, 1, True), (True, 1, False), (False, 2, False), (True, 2, False)]
)
def test_the_graph_is_static_only_if_every_backward_pass_is_alike(unused, accumulate, static):
    options = parallel_options(unused, accumulate)
    assert options["static_graph"] is static
    assert options["find_unused_parameters"] is unused
    assert options["gradient_as_bucket_view"]


def test_a_batch_of_another_size_leaves_the_compiled_shape_of_training(monkeypatch):
    """The compiler would compile the shape of training again, for any number of rows, once it has seen another one."""
    seen = []

    def backend(graph, inputs):
        seen.append([x.shape[0] for x in inputs if isinstance(x, torch.Tensor) and x.ndim == 2 and x.shape[1] == 3])
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda *args, real=torch.compile, **kw: real(*args, backend=backend, **kw))
    torch._dynamo.reset()
    encoder = nn.Linear(3, 4)
    encoder.dim = 4
    compile_encoders(MultiStream({"video": encoder}))
    for rows in (8, 64, 5):
        with torch.no_grad():
            encoder(torch.ones(rows, 3))
    encoder(torch.ones(8, 3))
    rows = [size for sizes in seen for size in sizes]
    assert all(isinstance(size, int) for size in rows)
    assert rows.count(8) == 2
    torch._dynamo.reset()

"""What saves memory or time changes no number: checkpointing, folded batch norms, channels-last, compilation."""

import copy

import pytest
import torch

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.fuse import fold_batch_norms
from CyDAS.models.native import library, tensors
from CyDAS.spaces import DartsSpace
from CyDAS.tasks.classification import classification_loss, retrain_loss

LAYOUT = Layout(init_channels=4, stem_multiplier=1, image_size=16)


@pytest.fixture(params=["native", "plain"])
def path(request, monkeypatch):
    """Both ways of computing a cell."""
    if request.param == "native" and library() is None:
        pytest.skip("no C++ compiler here")
    if request.param == "plain":
        monkeypatch.setattr(tensors, "library", lambda: None)


def make_network(**options):
    torch.manual_seed(3)
    genotype = random_genotype(torch.Generator().manual_seed(5))
    network = RetrainNetwork(LAYOUT, [genotype] * 3, auxiliary=True, **options).double()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64), torch.arange(6)


def test_checkpointing_leaves_a_retraining_as_it_is(path):
    outcomes = []
    for again in (False, True):
        network = make_network(grad_checkpointing=again).train()
        network.set_drop_path(0.3)
        torch.manual_seed(1)
        loss = retrain_loss(network(batch()[0]), batch()[1], 0.1, 0.4)
        loss.backward()
        outcomes.append([loss.detach(), *(p.grad for p in network.parameters()), *network.buffers()])
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-10, atol=1e-10)


def test_checkpointing_leaves_a_search_as_it_is(path):
    outcomes = []
    for again in (False, True):
        torch.manual_seed(2)
        space = DartsSpace(LAYOUT, grad_checkpointing=again)
        joint = space.build().double().train()
        space.set_evaluation(joint, space.discretise(joint))
        joint.nas_layers.double()
        search, evaluation = joint(batch()[0])
        loss = classification_loss(search.logits, batch()[1]) + classification_loss(evaluation.logits, batch()[1])
        (loss + (search.kd_input - evaluation.kd_input).square().mean()).backward()
        gradients = [p.grad for p in joint.parameters() if p.requires_grad]
        outcomes.append([loss.detach(), *gradients, *joint.buffers()])
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=1e-10, atol=1e-10)


def test_folded_batch_norms_give_the_same_logits():
    network = make_network().eval()
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.nas_layers.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(batch()[0]).logits, network(batch()[0]).logits, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="eval mode only"):
        fold_batch_norms(make_network().train())


def test_channels_last_gives_the_same_gradients(path):
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = make_network().train().to(memory_format=layout)
        retrain_loss(network(batch()[0]), batch()[1], 0.1, 0.4).backward()
        gradients.append([p.grad.contiguous() for p in network.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)


def test_a_compiled_network_keeps_its_state_dict_and_its_logits():
    """Traced by torch.compile, but not handed to its code generator, which takes minutes."""
    network = make_network().eval()
    with torch.no_grad():
        expected = network(batch()[0]).logits
        keys = list(network.state_dict())
        network.compile(backend="eager")
        torch.testing.assert_close(network(batch()[0]).logits, expected, rtol=1e-9, atol=1e-9)
    assert list(network.state_dict()) == keys

"""How long the operations of the chain space take on a machine, one by one and in whole networks."""

import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED
from CyDAS.models.chain.blocks import Classifier, Stem, make_operation
from CyDAS.models.chain.choice import random_architecture
from CyDAS.models.chain.cost_table import CostTable, places
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.chain.network import chain_network

#: A module, and the [C, H, W] of its input.
Part = tuple[nn.Module, tuple[int, int, int]]
#: A timing is as many calls as fill so many seconds.
SPAN = 0.005


@dataclass
class Bench:
    """How a module is timed: in eval mode, without gradients, on images of random numbers."""

    device: torch.device
    batch_size: int = 1
    channels_last: bool = False
    rounds: int = 20  #: timings, of which the median counts

    def about(self) -> dict[str, Any]:
        """What a table says of it."""
        is_gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if is_gpu else platform.processor() or platform.machine()
        versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        return asdict(self) | {"device": name} | versions

    @torch.inference_mode()
    def milliseconds(self, parts: Mapping[Hashable, Part]) -> dict[Hashable, float]:
        """Of each module on a batch of its [C, H, W]. All take turns, so that a slow moment is nobody's alone."""
        calls = {key: self._call(*part) for key, part in parts.items()}
        counts = {key: max(1, round(SPAN / self._seconds(call, 2))) for key, call in calls.items()}
        timings: dict[Hashable, list[float]] = {key: [] for key in calls}
        for _ in range(self.rounds):
            for key, call in calls.items():
                timings[key].append(1e3 * self._seconds(call, counts[key]))
        return {key: statistics.median(values) for key, values in timings.items()}

    def _call(self, module: nn.Module, shape: tuple[int, int, int]) -> Callable[[], Any]:
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        module = module.eval().to(self.device).to(memory_format=order)
        x = torch.randn(self.batch_size, *shape, device=self.device).contiguous(memory_format=order)
        return lambda: module(x)

    def _seconds(self, call: Callable[[], Any], count: int) -> float:
        """Of one call, the mean of ``count``."""
        call()  # caches as they are in a loop
        self._wait()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self._wait()
        return (time.perf_counter() - start) / count

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Latency(NamedTuple):
    """What was measured, milliseconds."""

    fixed: float  #: stem, stages 0 and 6, head
    blocks: dict[str, list[list[float]]]  #: by stage: the operations as its first block, and as a later one
    errors: list[float]  #: of the sums: 0.05 is a sum 5 percent above the whole network's time

    def say_errors(self) -> str:
        off = [abs(error) for error in self.errors]
        mean, largest, bias = 100 * statistics.mean(off), 100 * max(off), 100 * statistics.mean(self.errors)
        return (
            f"sums of the table against {len(off)} whole networks: off by {mean:.1f} % in the mean, {largest:.1f} % at "
            f"most; by {bias:+.1f} % with their signs"
        )


def measure_latency(layout: ChainLayout, bench: Bench, networks: int) -> Latency:
    """Every operation at every place, and the error of their sums in so many whole networks, drawn at random."""
    channels, size = layout.stage_output(SEARCHED[-1])
    image = layout.input_channels, layout.image_size, layout.image_size
    parts: dict[Hashable, Part] = {"stem": (Stem(layout.input_channels), image)}
    parts["head"] = (Classifier(layout), (channels, size, size))
    for stage in SEARCHED:
        for index, (block, state) in enumerate(places(layout, stage)):
            for operation in range(len(OPERATIONS)):
                parts[stage, index, operation] = make_operation(block, operation), state
    times = bench.milliseconds(parts)
    blocks = {
        stage: [[times[stage, index, operation] for operation in range(len(OPERATIONS))] for index in (0, 1)]
        for stage in SEARCHED
    }
    fixed = times["stem"] + times["head"]
    table = CostTable.of_blocks(fixed, list(blocks.values()), layout.depth, "ms")
    errors = _errors_of_sums(table, layout, bench, networks)
    return Latency(fixed, {str(stage): pair for stage, pair in blocks.items()}, errors)


def _errors_of_sums(table: CostTable, layout: ChainLayout, bench: Bench, networks: int) -> list[float]:
    drawn = [random_architecture(table, table.range, torch.Generator().manual_seed(seed)) for seed in range(networks)]
    shape = {"c_last": layout.c_last, "num_classes": layout.n_classes, "in_chans": layout.input_channels}
    image = layout.input_channels, layout.image_size, layout.image_size
    wholes = bench.milliseconds({i: (chain_network(each, **shape), image) for i, each in enumerate(drawn)})
    return [table.of(each) / wholes[i] - 1 for i, each in enumerate(drawn)]

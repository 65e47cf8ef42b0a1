"""Pictures of a run as PNG files: loss curve, activations, gradients, and the map of the embedding."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from handgrad.errors import MissingExtraError
from handgrad.training.files import replace_file
from handgrad.training.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 1000
"""Training rows from which activations and gradients are measured."""


def require_matplotlib() -> None:
    """Raise MissingExtraError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "plots need matplotlib, which is not installed: pip install 'handgrad[plots]'"
        ) from None


@torch.no_grad()
def plot_run(run: Run) -> list[Path]:
    """Draw the run as it stands at its last checkpoint; return the files, all in its folder ``plots``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_matplotlib()
    dataset, parameters = run.dataset, run.load_checkpoint().parameters
    X, Y = (torch.from_numpy(data[:ROWS]) for data in dataset.train)
    model = run.model
    values = model.forward(parameters, X, Y)
    gradients = _over_time(model.backward(parameters, values, X, Y))
    shown = [f"d{name}" for name in (*model.activations, *parameters._fields)]
    pictures = {
        "loss": _loss_curve(run),
        "activations": _histograms("Activations", {name: _over_time(values)[name] for name in model.activations}),
        "gradients": _histograms("Gradients, by hand", {name: gradients[name] for name in shown}),
        "embedding": _embedding_map(parameters.C, dataset.vocabulary.symbols),
    }
    folder = run.path / "plots"
    folder.mkdir(exist_ok=True)
    files = []
    for name, figure in pictures.items():
        file = folder / f"{name}.png"
        picture = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for a symbol the font lacks
            figure.savefig(picture, format="png", dpi=120, bbox_inches="tight")
        replace_file(file, picture.getvalue())
        files.append(file)
    return files


def _over_time(named: Any) -> dict[str, Tensor]:
    """Return the tensors of a NamedTuple by name; those of the steps of a loop as one, stacked."""
    found: dict[str, Tensor] = {}
    for name, value in named._asdict().items():
        if isinstance(value, list):
            fields = zip(*value, strict=True)
            found |= {field: torch.stack(steps) for field, steps in zip(value[0]._fields, fields, strict=True)}
        else:
            found[name] = value
    return found


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # no pyplot: no window system, no state left behind

    return Figure(figsize=(width, height), layout="constrained")


def _loss_curve(run: Run) -> Figure:
    metrics = run.metrics()
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    steps, losses = [line["step"] for line in metrics], [line["loss"] for line in metrics]
    width = max(1, len(losses) // 50)
    if width > 1:
        axes.plot(steps, losses, linewidth=0.6, alpha=0.45, color="tab:blue", label="as logged")
    means = [sum(losses[k - width : k]) / width for k in range(width, len(losses) + 1)]
    axes.plot(steps[width - 1 :], means, color="tab:blue", label=f"mean of {width * run.config.log_every} steps")
    for before, after in pairwise(metrics):
        if after["lr"] != before["lr"]:
            axes.axvline(before["step"], color="grey", linestyle=":", label=f"learning rate {after['lr']:g} from here")
    axes.set(title="Training loss", xlabel="step", ylabel="nats a symbol")
    if metrics:
        axes.legend()
    return figure


def _histograms(title: str, tensors: dict[str, Tensor]) -> Figure:
    columns = 4
    rows = -(-len(tensors) // columns)
    figure = _figure(3.2 * columns, 2.4 * rows + 0.4)
    figure.suptitle(title)
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, tensor) in zip(grid, tensors.items(), strict=False):
        axes.hist(tensor.flatten().numpy(), bins=min(60, 8 + tensor.numel() // 8), color="tab:blue")
        axes.set_title(f"{name} {tuple(tensor.shape)}, std {tensor.std(correction=0).item():.2g}", fontsize=9)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-1, 3))
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(labelsize=7)
    for axes in grid[len(tensors) :]:
        axes.set_axis_off()
    return figure


def _embedding_map(C: Tensor, symbols: tuple[str, ...]) -> Figure:
    figure = _figure(6.5, 6.5)
    axes = figure.subplots()
    centred = C - C.mean(0)
    _, singular, V = torch.linalg.svd(centred, full_matrices=False)
    flat = centred @ V[:2].T  # (vocab, 2) the first two principal components, or the one there is
    share = (singular[:2] ** 2).sum() / (singular**2).sum()
    x, y = flat[:, 0], flat[:, 1] if flat.shape[1] > 1 else torch.zeros(len(C))
    axes.scatter(x.numpy(), y.numpy(), s=220, color="lightsteelblue")
    for symbol, a, b in zip(symbols, x.tolist(), y.tolist(), strict=True):
        axes.annotate(symbol, (a, b), ha="center", va="center")
    axes.set_title(f"Embedding: two principal components, {share:.0%} of the variance")
    axes.grid(alpha=0.3)
    return figure

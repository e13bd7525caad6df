"""What the tests of ``jitloss evaluate`` share: files from arrays and back."""

from pathlib import Path
from typing import Any

import numpy as np

from jitloss import cli


def flags(options: dict[str, Any], folder: Path) -> list[str]:
    """Options of a call as command-line flags; arrays become files."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, np.ndarray):
            np.save(folder / f"{name}.npy", value)
            words += [f"--{flag}", str(folder / f"{name}.npy")]
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words


def saved(inputs: list[Any], folder: Path) -> list[str]:
    paths = [str(folder / f"input{position}.npy") for position in range(len(inputs))]
    for path, array in zip(paths, inputs, strict=True):
        np.save(path, array)
    return paths


def written(loss: Any, folder: Path) -> Any:
    """The gradient files, in the structure in which a call returns gradients."""
    names = [one.name for one in loss.definition.differentiable]
    if len(names) == 1:
        return np.load(folder / "gradient.npy")
    return {name: np.load(folder / f"gradient.{name}.npy") for name in names}


def same(got: Any, wanted: Any) -> None:
    """Equal up to the last bits, because loops over blocks begin and end elsewhere."""
    pairs = [(got[name], wanted[name]) for name in wanted] if isinstance(wanted, dict) else [(got, wanted)]
    for one, other in pairs:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        eps, largest = float(np.finfo(other.dtype).eps), float(np.max(np.abs(other), initial=0.0))
        np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=3 * eps, atol=3 * eps * largest)


def pair(folder: Path, rows: int = 30) -> list[str]:
    random = np.random.default_rng(0)
    return saved([random.standard_normal((rows, 4)), random.integers(0, 4, rows)], folder)


def older(folder: Path) -> Path:
    path = folder / "gradient.npy"
    np.save(path, np.arange(3))
    return path


def survives(path: Path) -> bool:
    return np.array_equal(np.load(path), np.arange(3)) and not list(path.parent.glob("*.part"))


def complains(words: list[str], message: str, capsys: Any) -> None:
    """Assert exit code 2, one readable line on stderr, and nothing on stdout."""
    assert cli.main(words) == 2
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert complaint.startswith(f"jitloss {words[0]}: ")
    assert message in complaint
    assert complaint.endswith("\n")
    assert complaint.count("\n") == 1
    assert "Traceback" not in complaint

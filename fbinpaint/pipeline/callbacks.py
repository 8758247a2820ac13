"""What a caller's `callback_on_step_end` may look at and replace after each round, as in diffusers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fbinpaint.errors import InputError
from fbinpaint.loop import Round

TENSORS = ("image", "probabilities")  # of a Round


def make_callback(
    pipe: Any, function: Callable[[Any, int, int, dict], dict | None] | None, names: Sequence[str] | None
) -> Callable[[Round], bool] | None:
    """What calls `function` with the tensors of these names (None = all), puts those it returns into the round, and
    says whether any is another than before. None without a function.

    Raises InputError for unknown names; what is made does so for anything else than a dict of tensors of the same
    shapes, or None.
    """
    names = TENSORS if names is None else names
    if unknown := [name for name in names if name not in TENSORS]:
        raise InputError(f"callback_on_step_end_tensor_inputs: {unknown[0]!r} is none of {', '.join(TENSORS)}")
    if function is None:
        return None

    def callback(round_: Round) -> bool:
        before = {name: getattr(round_, name).clone() for name in TENSORS}  # they may also be changed in place
        returned = function(pipe, round_.index, round_.index, {name: getattr(round_, name) for name in names})
        if not isinstance(returned, dict | None):
            raise InputError(f"callback_on_step_end returned a {type(returned).__name__}; return a dict or None")
        replaced = False
        for name, old in before.items():
            new = (returned or {}).get(name, getattr(round_, name))
            if not isinstance(new, Tensor) or new.shape != old.shape:
                what = f"of shape {tuple(new.shape)}" if isinstance(new, Tensor) else f"that is a {type(new).__name__}"
                raise InputError(f"callback_on_step_end returned {name} {what}; return a tensor {tuple(old.shape)}")
            if not torch.isfinite(new).all():
                raise InputError(f"callback_on_step_end returned {name} with NaN or infinity; return finite numbers")
            if name == "probabilities" and (new < 0).any():
                raise InputError(f"callback_on_step_end returned probabilities of {new.min():g}; return none below 0")
            if not torch.equal(new.to(old), old):
                setattr(round_, name, new.to(old, copy=True))
                replaced = True
        return replaced

    return callback

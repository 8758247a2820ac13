"""Less memory in training, for a third more time: `enable_gradient_checkpointing` of every network."""

import functools
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin


class GradientCheckpointing(ModelMixin):
    """What ModelMixin's switch asks of a model; to be named before `ModelMixin` among the base classes.

    A network is recomputed as a whole: between rounds only its inputs are kept.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False
    _gradient_checkpointing_func: Any  # set with it

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return super().__call__(*args, **options)
        # diffusers' own function takes no keywords.
        return self._gradient_checkpointing_func(functools.partial(super().__call__, **options), *args)

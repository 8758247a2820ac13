"""One file per role; read them in the order of the paper's figure."""

from .discriminator import Discriminator
from .guided_inpainter import GuidedInpainter
from .initial_inpainter import InitialInpainter
from .recorrector import Recorrector
from .segmenter import Segmenter

__all__ = ["Discriminator", "GuidedInpainter", "InitialInpainter", "Recorrector", "Segmenter"]

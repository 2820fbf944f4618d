"""Sizes of the CNN's maps and receptive fields, by arithmetic: imports no torch."""

from dataclasses import dataclass

from study.architectures import CNNConfig
from study.config import IMAGE_SIZE
from study.errors import StudyError


def output_size(size: int, kernel: int, *, padding: int = 0, stride: int = 1, dilation: int = 1) -> int:
    """Output side, in pixels, of a convolution or pooling of a square of side `size`.

    Equation 2 of Wik (2023), n_out = (n_in - k + 2p) / s + 1, with a dilated kernel's extent d(k - 1) + 1 for k.
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def feature_sizes(config: CNNConfig, side: int = IMAGE_SIZE) -> dict[str, int]:
    """Side, in pixels, of the output maps of each convolution and pooling (equation 2).

    Args:
        config: the sizes of the layers.
        side: side of the images, in pixels.

    Raises:
        StudyError: if a kernel or pooling window is larger than its input.
    """
    sizes = {}
    for number in (1, 2):
        for layer, after in (
            (f"conv{number}", _convolved(side, config)),
            (f"pool{number}", output_size(_convolved(side, config), config.pool, stride=config.pool)),
        ):
            if after < 1:
                raise StudyError(
                    f"The layers do not fit: {layer} leaves nothing of a {side} × {side} input with kernel "
                    f"{config.kernel}, padding {config.padding}, stride {config.stride}, dilation "
                    f"{config.dilation} and pooling {config.pool}; make kernel, stride or pooling "
                    "smaller, pad more, or take larger images."
                )
            sizes[layer] = after
        side = sizes[f"pool{number}"]
    return sizes


def _convolved(side: int, config: CNNConfig) -> int:
    return output_size(side, config.kernel, padding=config.padding, stride=config.stride, dilation=config.dilation)


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field of a layer's units, in pixels of the image; the same in both directions."""

    side: int
    """Side of the square that a unit sees."""
    step: int
    """Distance between the squares of neighbouring units."""
    start: int
    """First pixel that unit 0 sees; negative within the padding."""
    image: int = IMAGE_SIZE
    """Side of the images."""

    def inside(self, unit: int) -> bool:
        """Whether the receptive field of this unit, counted in one direction, contains no padding."""
        return 0 <= self.start + self.step * unit <= self.image - self.side


def receptive_fields(config: CNNConfig, side: int = IMAGE_SIZE) -> dict[str, ReceptiveField]:
    """Receptive fields of each convolution and pooling in images of this side; those of ReLU are its input's.

    The recurrences of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill
    (2019), equations 1 to 3.
    """
    fields, field = {}, ReceptiveField(1, 1, 0, side)
    extent = config.dilation * (config.kernel - 1) + 1
    for number in (1, 2):
        for layer, window, stride, padding in (
            (f"conv{number}", extent, config.stride, config.padding),
            (f"pool{number}", config.pool, config.pool, 0),
        ):
            field = ReceptiveField(
                side=field.side + (window - 1) * field.step,
                step=field.step * stride,
                start=field.start - padding * field.step,
                image=side,
            )
            fields[layer] = field
    return fields

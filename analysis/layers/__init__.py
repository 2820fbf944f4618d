"""The operations of the layers (convolution, padding, dilation, stride, pooling), worked out in numbers."""

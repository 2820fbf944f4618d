"""The names of all figures of a report on two models whose classes are not CIFAR-10's."""

OF_BOTH = {
    "table2_intervals",
    "classes",
    "confusion",
    "roc",
    "calibration",
    "samples",
    "covariance",
    "correlation",
    "convergence",
    "kernel_convergence",
    "filter_health",
    "sensitivity",
    "search_heatmap",
}
FFNN_FIGURES = OF_BOTH
LAYERS = ("conv1", "conv2")


def cnn_figures(filter: int) -> set[str]:
    """The figures of a CNN, with `filter` followed in each convolution."""
    return OF_BOTH | {
        "image",
        *(f"kernels_{layer}" for layer in LAYERS),
        *(f"kernel_{layer}_filter{filter}" for layer in LAYERS),
        *(f"maps_{kind}{number}_filter{filter}" for kind in ("conv", "relu", "pool") for number in (1, 2)),
        *(f"grid_{kind}{number}" for kind in ("conv", "relu", "pool") for number in (1, 2)),
        "ablation_auc_lost",
        "ablation_accuracy_lost",
        "ablation_image",
        "circuit",
        "confusions_by_filter",
        "selectivity",
        *(f"patches_{layer}" for layer in LAYERS),
        *(f"concept_{name}" for name in ("convolution", "padding", "dilation", "stride", "pooling")),
        f"worked_conv1_filter{filter}",
    }

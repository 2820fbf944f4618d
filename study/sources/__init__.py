"""Where images come from: CIFAR-10, and image folders."""

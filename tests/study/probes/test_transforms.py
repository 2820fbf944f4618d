import subprocess
import sys

import torch

from study.probes import transforms


def test_a_transform_is_torchvisions():
    # Imported here, since every process that collects the tests would take seconds for it.
    from torchvision.transforms.v2 import functional

    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = transforms.gaussian_blur(images, [5, 5], [1.0, 1.0])
    assert torch.equal(blurred, functional.gaussian_blur(images, [5, 5], [1.0, 1.0]))


def test_an_analysis_imports_torchvision_only_when_an_image_is_changed():
    check = "import sys, pipelines.analyse, pipelines.explain; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

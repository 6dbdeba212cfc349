"""Makes the packages beside it: palettized by coremltools through PyTorch, with integer look-up tables
and with a scale for each channel, forms that coremltools cannot make from a package alone.

    pip install torch==2.7.0 coremltools==9.0
    python make_packages.py
"""

import pathlib
import shutil

import coremltools as ct
import torch
from coremltools.optimize.torch.palettization import (
    PostTrainingPalettizer,
    PostTrainingPalettizerConfig,
)

CASES = {
    "lut_int8": {"n_bits": 4, "granularity": "per_tensor", "lut_dtype": "int8"},
    "lut_uint8_grouped": {
        "n_bits": 2,
        "granularity": "per_grouped_channel",
        "group_size": 8,
        "lut_dtype": "uint8",
    },
    "channel_scale": {"n_bits": 4, "granularity": "per_tensor", "enable_per_channel_scale": True},
}


def main():
    here = pathlib.Path(__file__).parent
    for name, options in CASES.items():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(8, 32, 3), torch.nn.ReLU()).eval()
        config = PostTrainingPalettizerConfig.from_dict({"global_config": options})
        network = PostTrainingPalettizer(network, config).compress()
        image = torch.zeros(1, 8, 8, 8)
        package = ct.convert(
            torch.jit.trace(network, image),
            inputs=[ct.TensorType(shape=image.shape)],
            minimum_deployment_target=ct.target.iOS18,
            skip_model_load=True,
        )
        package.user_defined_metadata.pop("com.github.apple.coremltools.conversion_date", None)
        target = here / f"{name}.mlpackage"
        shutil.rmtree(target, ignore_errors=True)
        package.save(str(target))


if __name__ == "__main__":
    main()
